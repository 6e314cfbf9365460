"""The log-probabilities of one text, token by token, are the same bits in eight layouts and with two chunk sizes each, in both
numerics; `sluice eval logprobs --compare` says so in one table, and says where other numerics differ. (Attention tensor
parallelism cuts a sum over ranks: it is not among them.)
Usage: logprob_layouts_test.py --sluice PROGRAM

SLUICE_LOGPROB_TOKENS is the length of the text (600)."""

import argparse
import json
import os
import pathlib
import random
import subprocess
import tempfile

import eval_runs
import sluice_server

CP = ("--enable-nsa-prefill-context-parallel",)
LAYOUTS = {
    "one": (),
    "pp2": ("--pp-size", "2"),
    "pp2_virtual2": ("--pp-size", "2", "--pp-virtual-stages", "2"),
    "cp2": ("--tp", "2", *CP),
    "cp2_zigzag": ("--tp", "2", *CP, "--nsa-prefill-cp-mode", "in-seq-split"),
    "cp4_owners3": ("--tp", "4", *CP, "--expert-owners", "3"),
    "pp2_cp2": ("--pp-size", "2", "--tp", "2", *CP),
    "pp4_processes": ("--pp-size", "4", "--ranks", "processes"),
}


def text_of(tokens):
    """More than so many tokens of a byte-level tokenizer, which every checkpoint made here has."""
    chance = random.Random(12)
    return " ".join(chance.choice(["the", "river", "state", "court", "and", "7", "caf\u00e9"]) for _ in range(tokens))


def ask(program, scratch, model, name, tokens, *flags):
    with sluice_server.serving(program, model, scratch / f"{name}.log", "--context-length", str(tokens + 64),
                               "--max-prompt-logprobs", str(tokens), *flags) as server:
        eval_runs.evaluate(program, "logprobs", "--url", server.url, "--text-file", scratch / "text.txt", "--tokens", tokens,
                           "--output", name, cwd=scratch)


def compare(program, scratch, names, code=0):
    return eval_runs.evaluate(program, "logprobs", "--compare", *(f"{name}.json" for name in names), "--output", "table",
                              cwd=scratch, code=code).stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = str(pathlib.Path(parser.parse_args().sluice).resolve())
    tokens = int(os.environ.get("SLUICE_LOGPROB_TOKENS", "600"))
    chunks = (tokens // 8, 3 * tokens // 10)
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        (scratch / "text.txt").write_text(text_of(tokens))
        whole = {}
        for numerics, dtype in (("exact", "f32"), ("fp8", "fp8")):
            model = scratch / dtype
            subprocess.run([program, "checkpoint", "make", str(model), "--preset", "tiny", "--dtype", dtype], check=True,
                           capture_output=True)
            whole[numerics] = f"{numerics}-one-whole"
            ask(program, scratch, model, whole[numerics], tokens, "--numerics", numerics)
            names = [whole[numerics]]
            for layout, flags in LAYOUTS.items():
                for chunk in chunks:
                    names.append(f"{numerics}-{layout}-chunk{chunk}")
                    ask(program, scratch, model, names[-1], tokens, "--numerics", numerics, "--chunked-prefill-size", str(chunk),
                        *flags)
            table = compare(program, scratch, names)
            print(table)
            assert len(table.splitlines()) == len(names) + 2, table
            assert "All log-probabilities are equal, bit for bit." in table, table
            runs = json.loads((scratch / "table.json").read_text())["runs"]
            assert len(runs) == 1 + 2 * len(LAYOUTS)
            for run in runs:
                assert len(run["tokens"]) == tokens and run["token_logprobs"][0] is None, run["source"]
                assert max(run["token_logprobs"][1:]) < 0 and len(set(run["token_logprobs"])) > tokens // 4, run["source"]
        # The same weights in other numerics: the table sees it.
        ask(program, scratch, scratch / "fp8", "exact-of-fp8", tokens, "--numerics", "exact")
        table = compare(program, scratch, [whole["fp8"], "exact-of-fp8"], code=1)
        assert "All log-probabilities are equal" not in table and "exact-of-fp8.json: token " in table, table
        print(f"ok {tokens} tokens, {len(LAYOUTS)} layouts, chunks of {chunks[0]} and {chunks[1]}, exact and fp8")


if __name__ == "__main__":
    main()
