"""`sluice eval` against real servers of one checkpoint in two layouts: the same answers to gsm8k, needles found in both; over
TLS and with a key as well. Usage: eval_layouts_test.py --sluice PROGRAM

SLUICE_EVAL_QUESTIONS says how many of gsm8k's questions (16; 1319 are all), SLUICE_GSM8K where they are; without it
generated ones stand in."""

import argparse
import json
import os
import pathlib
import random
import subprocess
import tempfile

import eval_runs
import sluice_server

LAYOUTS = {
    "one": (),
    "grid": ("--pp-size", "2", "--tp", "2", "--enable-nsa-prefill-context-parallel", "--chunked-prefill-size", "512"),
}


def gsm8k(program, scratch, url, name, questions, data):
    finished = subprocess.run(
        [program, "eval", "gsm8k", "--data", data, "--url", url, "--num-questions", str(questions), "--max-new-tokens", "32",
         "--parallel", "16", "--output", name], cwd=scratch, stdout=subprocess.PIPE, text=True, check=True)
    print(name, finished.stdout.replace("\n", "; "))
    return json.loads((scratch / f"{name}.json").read_text())


def needle(program, scratch):
    """The checkpoint that recalls finds every needle, in layouts and numerics; not one that is not there, and fewer when the
    indexer selects too little."""
    for name, overrides in (("recalls", ()), ("forgets", ("--config-override", "index_topk=2"))):
        subprocess.run([program, "checkpoint", "make", str(scratch / name), "--kind", "recall", *overrides], check=True,
                       capture_output=True)
    words = ("needle", "--style", "recall", "--depths", "9", "--require", "1", "--lengths", "600,1500", "--output", "needle")
    for flags in ((), (*LAYOUTS["grid"], "--numerics", "fp8")):
        with sluice_server.serving(program, scratch / "recalls", scratch / "recalls.log", *flags) as server:
            found = eval_runs.evaluate(program, *words, "--url", server.url, cwd=scratch)
            assert "Found: 1.000 (18 of 18)" in found.stdout, found.stdout
            questions = json.loads((scratch / "needle.json").read_text())["questions"]
            assert {question["prompt_tokens"] for question in questions} == {600, 1500}, questions
            found = eval_runs.evaluate(program, *words, "--url", server.url, "--leave-out", 4, cwd=scratch, code=1)
            assert "Found: 0.889 (16 of 18)" in found.stdout, found.stdout
    with sluice_server.serving(program, scratch / "forgets", scratch / "forgets.log") as server:
        # The indexer tells 8 classes of keys apart, and selects two places: of 30 keys at most 16 can be answered.
        eval_runs.evaluate(program, "needle", "--style", "recall", "--depths", 30, "--require", "1", "--lengths", 600, "--url",
                           server.url, "--output", "needle", cwd=scratch, code=1)
    assert json.loads((scratch / "needle.json").read_text())["found"] <= 16
    print("ok needle")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = str(pathlib.Path(parser.parse_args().sluice).resolve())
    questions = int(os.environ.get("SLUICE_EVAL_QUESTIONS", "16"))
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        data = os.environ.get("SLUICE_GSM8K", "")
        if not pathlib.Path(data, "test.jsonl").exists() or not data:
            print("generated questions: SLUICE_GSM8K names no directory with test.jsonl")
            data = str(scratch / "data")
            eval_runs.write_items(pathlib.Path(data), eval_runs.random_items(max(questions, 5), 10))
        model = scratch / "m"
        subprocess.run([program, "checkpoint", "make", str(model), "--preset", "tiny", "--dtype", "f32"], check=True,
                       capture_output=True)
        text = scratch / "text.txt"
        chance = random.Random(11)
        text.write_text(" ".join(chance.choice(["the", "river", "state", "court", "and", "7", "caf\u00e9"]) for _ in range(2000)))
        results = {}
        for name, flags in LAYOUTS.items():
            with sluice_server.serving(program, model, scratch / f"{name}.log", "--context-length", "8192",
                                       "--max-prompt-logprobs", "8192", *flags) as server:
                results[name] = gsm8k(program, scratch, server.url, name, questions, data)
                if name == "one":
                    eval_runs.evaluate(program, "logprobs", "--url", server.url, "--text-file", text, "--tokens", 2000,
                                       "--output", "whole", cwd=scratch)
        assert all(result["answered"] == questions and not result["partial"] for result in results.values())
        assert results["one"]["answers"] == results["grid"]["answers"], "two layouts, two answers"
        assert len({entry["text"] for entry in results["one"]["answers"]}) > 1, "every answer is the same text"
        print("ok gsm8k,", questions, "questions")
        needle(program, scratch)
        cert, key = scratch / "cert.pem", scratch / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=sluice",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)], check=True,
                       capture_output=True)
        with sluice_server.serving(program, model, scratch / "tls.log", "--context-length", "8192", "--ssl-certfile", str(cert),
                                   "--ssl-keyfile", str(key), "--api-key", "a-key-of-some-length") as server:
            words = ("logprobs", "--url", server.url, "--text-file", text, "--tokens", 300, "--output", "tls")
            eval_runs.evaluate(program, *words, "--ca-file", cert, "--api-key", "a-key-of-some-length", cwd=scratch)
            eval_runs.evaluate(program, *words, "--insecure", "--api-key", "a-key-of-some-length", cwd=scratch)
            run = json.loads((scratch / "tls.json").read_text())["runs"][0]
            # A run that fails keeps what it has, which is nothing.
            refused = eval_runs.evaluate(program, *words, "--api-key", "a-key-of-some-length", cwd=scratch, code=6).stderr
            assert "TLS handshake" in refused, refused
            refused = eval_runs.evaluate(program, *words, "--ca-file", cert, cwd=scratch, code=6).stderr
            assert "401" in refused, refused
        whole = json.loads((scratch / "whole.json").read_text())["runs"][0]
        assert run["token_logprobs"] == whole["token_logprobs"][:300]
        print("ok TLS and keys")


if __name__ == "__main__":
    main()
