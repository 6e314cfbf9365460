"""`sluice bench prefill`, `decode`, `ops`, `comm` and `report`: what they count adds up, and what they keep makes a
page. No figure is held to a speed. Usage: bench_engine_test.py --sluice PROGRAM"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import tempfile

from sluice_server import serving

LAYOUT = ["--pp-size", "2", "--tp", "2", "--enable-nsa-prefill-context-parallel"]


def bench(program, *flags, code=0):
    finished = subprocess.run([program, "bench", *flags], capture_output=True, text=True, timeout=120)
    assert finished.returncode == code, (finished.returncode, finished.stdout[-2000:], finished.stderr[-2000:])
    return finished


def results(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def prefill(program, kept):
    finished = bench(program, "prefill", "--model", "random:tiny", *LAYOUT, "--input-len", "700", "--chunk-sizes", "128,256",
                     "--repeats", "2", "--output-file", str(kept))
    runs = results(kept)
    assert [run["chunk_size"] for run in runs] == [128, 256], runs
    for run in runs:
        assert abs(sum(run[part] for part in ("compute", "wait", "hop", "idle")) - 1) < 1e-9, run
        assert abs(run["bubble"] + run["compute"] - 1) < 1e-9 and 0 < run["bubble_floor"] < 1, run
        assert len(run["ttfts_ms"]) == 2 and abs(statistics.median(run["ttfts_ms"]) - run["median_ttft_ms"]) < 1e-9
        assert abs(run["tokens_per_second"] - 700e3 / run["median_ttft_ms"]) < 1e-6, run
        # Every rank computes every chunk of the last prompt, one after the other, and nothing else.
        steps = [sorted({step for _, _, step in lane["spans"]}) for lane in run["timeline"]]
        assert len(steps) == 4 and all(each == steps[0] for each in steps), steps
        assert len(steps[0]) == math.ceil(700 / run["chunk_size"]), (run["chunk_size"], steps)
        for lane in run["timeline"]:
            assert lane["label"] == f"stage {lane['stage']} lane {lane['label'][-1]}"
            assert all(begin < end for begin, end, _ in lane["spans"])
            order = [step for _, _, step in sorted(lane["spans"])]
            assert order == sorted(order), order
    assert finished.stdout.count("stage 1 lane 1  |") == 2, finished.stdout


def decode(program, kept):
    bench(program, "decode", "--model", "random:tiny", "--pp-size", "2", "--input-len", "200", "--batch-size", "1,3",
          "--output-len", "6", "--repeats", "1", "--output-file", str(kept))
    runs = [run for run in results(kept) if run["kind"] == "decode"]
    assert [(run["depth"], run["batch"]) for run in runs] == [(200, 1), (200, 3)], runs
    for run in runs:
        assert run["tokens_per_second"] > 0 and run["median_step_ms"] > 0, run


def parts(program, kept):
    finished = bench(program, "ops", "--model", "random:tiny", "--rows", "1,8", "--context", "256", "--seconds", "0.01",
                     "--threads", "1", "--output-file", str(kept))
    ops = [run for run in results(kept) if run["kind"] == "ops"]
    names = {run["op"].split(",")[0] for run in ops}
    assert {"q_b_proj", "o_proj", "expert down_proj", "sparse attention"} <= names, names
    assert all(run["us"] > 0 and run["peak_flops_per_second"] > 0 for run in ops), ops
    assert "% of peak" in finished.stdout
    bench(program, "comm", "--ranks", "3", "--bytes", "64,4Ki", "--repeats", "3", "--output-file", str(kept))
    comm = [run for run in results(kept) if run["kind"] == "comm"]
    assert sorted((run["plane"], run["op"], run["bytes"]) for run in comm) == sorted(
        (plane, op, size) for plane in ("threads", "gloo") for op in ("hop", "all-gather") for size in (64, 4096)), comm


def report(program, kept, page):
    bench(program, "report", str(kept), "--output", str(page))
    text = page.read_text()
    for part in ("Bubble over chunk size", "Decode over batch", "Timelines", "700 tokens in chunks of 256"):
        assert part in text, part
    broken = kept.with_name("broken.jsonl")
    broken.write_text("{}\n[\n")
    assert f"{broken}:2: it is no JSON object" in bench(program, "report", str(broken), "--output", str(page), code=2).stderr


def profiled_load(program, scratch):
    """bench serve has the server profile its ranks, and draws what they did: every rank, every chunk."""
    kept = scratch / "profiled.jsonl"
    with serving(program, "random:tiny", scratch / "server.log", *LAYOUT, "--chunked-prefill-size", "256") as server:
        finished = bench(program, "serve", "--base-url", server.url, "--num-prompts", "1", "--random-input-len", "700",
                         "--random-output-len", "1", "--random-range-ratio", "1", "--warmup-requests", "0", "--profile",
                         "--profile-output-dir", str(scratch / "profile"), "--output-file", str(kept))
    lanes = results(kept)[0]["timeline"]
    assert [lane["stage"] for lane in lanes] == [0, 0, 1, 1], lanes
    for lane in lanes:
        assert len({step for _, _, step in lane["spans"]}) >= math.ceil(700 / 256), lane
    assert finished.stdout.count("stage 1 lane ") == 2, finished.stdout
    assert "belong together" in bench(program, "serve", "--profile", code=2).stderr


def flags(program):
    for line, sentence in ((["prefill", "--model", "random:tiny", "--input-len", "1M"], "are more than the model's"),
                           (["prefill", "--model", "random:tiny", "--chunk-sizes", "0"], "--chunk-sizes 0 is out of range"),
                           (["decode", "--model", "random:tiny", "--output-len", "1"], "--output-len 1 is out of range"),
                           (["ops", "--context", "100"], "no multiple of 64"),
                           (["comm", "--plane", "pigeons"], "--plane pigeons is not known")):
        assert sentence in bench(program, *line, code=2).stderr, (line, sentence)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    with tempfile.TemporaryDirectory() as directory:
        kept = pathlib.Path(directory) / "runs.jsonl"
        prefill(program, kept)
        print("ok prefill")
        decode(program, kept)
        print("ok decode")
        parts(program, kept)
        print("ok parts")
        report(program, kept, pathlib.Path(directory) / "page.html")
        print("ok report")
        profiled_load(program, pathlib.Path(directory))
        print("ok profiled load")
        flags(program)
        print("ok flags")


if __name__ == "__main__":
    main()
