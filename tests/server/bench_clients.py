"""The same load by `sluice bench serve` and by SGLang's bench_serving, one after the other, several times: prints both
result blocks of the last round and the medians of all. Every run must complete all requests; how near the times are is
for the reader, since a machine has other work. Needs the packages of load_clients_test.py.
Usage: bench_clients.py --sluice PROGRAM [--rounds N] [--requests N] [--concurrency N]"""

import argparse
import importlib.util
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

import load_clients_test
import sluice_server

PROMPT, ANSWER = 512, 32
FIGURES = ["median_ttft_ms", "p99_ttft_ms", "median_tpot_ms", "median_itl_ms", "p99_itl_ms", "median_e2e_latency_ms",
           "output_throughput", "total_throughput"]


def texts(count, seed):
    """PROMPT letters and spaces each."""
    numbers = random.Random(seed)
    return ["".join(numbers.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(PROMPT)) for _ in range(count)]


def run(command):
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600,
                              env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"})
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished.stdout[finished.stdout.index("============ Serving"):].strip()


def by_sluice(options, server, prompts, scratch):
    trace, result = scratch / "trace.jsonl", scratch / "ours.jsonl"
    trace.write_text("".join(json.dumps({"prompt": prompt, "output_length": ANSWER}) + "\n" for prompt in prompts))
    block = run([options.sluice, "bench", "serve", "--base-url", server.url, "--dataset-name", "mooncake",
                 "--dataset-path", str(trace), "--max-concurrency", str(options.concurrency), "--backend", "sglang-oai",
                 "--flush-cache", "--output-file", str(result)])
    return block, json.loads(result.read_text().splitlines()[-1])


def by_sglang(options, server, prompts, scratch, tokenizer):
    program = pathlib.Path(importlib.util.find_spec("sglang").submodule_search_locations[0]) / "bench_serving.py"
    talks, result = scratch / "talks.json", scratch / "theirs.jsonl"
    talks.write_text(json.dumps([{"conversations": [{"value": prompt}, {"value": "an answer"}]} for prompt in prompts]))
    block = run([sys.executable, str(program), "--backend", "sglang-oai", "--base-url", server.url, "--model", "m",
                 "--tokenizer", tokenizer, "--dataset-name", "sharegpt", "--dataset-path", str(talks),
                 "--sharegpt-output-len", str(ANSWER), "--num-prompts", str(len(prompts)), "--max-concurrency",
                 str(options.concurrency), "--flush-cache", "--output-file", str(result), "--disable-tqdm"])
    return block, json.loads(result.read_text().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=4)
    options = parser.parse_args()
    if importlib.util.find_spec("sglang") is None:
        print("not measured: the sglang package is not installed")
        sys.exit(77)
    runs = {"sluice bench serve": [], "bench_serving": []}
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        model = scratch / "m"
        subprocess.run([options.sluice, "checkpoint", "make", str(model), "--preset", "tiny"], check=True,
                       capture_output=True)
        (scratch / "tokenizer").mkdir()
        tokenizer = load_clients_test.tokenizer_of(model, scratch / "tokenizer")
        with sluice_server.serving(options.sluice, model, scratch / "server.log", "--pp-size", "2") as server:
            for round_ in range(options.rounds):
                prompts = texts(options.requests, round_)
                runs["sluice bench serve"].append(by_sluice(options, server, prompts, scratch))
                runs["bench_serving"].append(by_sglang(options, server, prompts, scratch, tokenizer))
    for name, found in runs.items():
        print(f"--- {name}, the last of {options.rounds}\n{found[-1][0]}\n")
        for _, figures in found:
            assert figures["completed"] == options.requests, figures
            assert figures["total_output_tokens"] == ANSWER * options.requests, figures
    counted = [[figures["total_input_tokens"] for _, figures in found] for found in runs.values()]
    assert counted[0] == counted[1], f"the server and the client's tokenizer count prompts otherwise: {counted}"
    print(f"{'median (least to most) of the rounds':<38} {'sluice bench serve':>28} {'bench_serving':>28}  ratio")
    for figure in FIGURES:
        ours, theirs = ([f[figure] for _, f in found if figure in f] for found in runs.values())
        if not theirs:
            continue
        shown = [f"{statistics.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in (ours, theirs)]
        print(f"{figure:<38} {shown[0]:>28} {shown[1]:>28}  {statistics.median(ours) / statistics.median(theirs):.3f}")


if __name__ == "__main__":
    main()
