"""Load clients that people run already, against the real program: SGLang's bench_serving over /generate and over
/v1/completions, and guidellm. Each must complete all its requests. A client that is not installed is left out by name;
ends with code 77 when none is. Usage: load_clients_test.py --sluice PROGRAM"""

import argparse
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import sluice_server

REQUESTS = 12


def tokenizer_of(model, directory):
    """The checkpoint's tokenizer as the transformers library wants it."""
    shutil.copy(model / "tokenizer.json", directory / "tokenizer.json")
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (directory / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return str(directory)


def run(*command):
    finished = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300,
                              env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"})
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished.stdout


def bench_serving(server, tokenizer, scratch):
    # Its file alone: the package around it imports the whole engine.
    found = importlib.util.find_spec("sglang")
    program = pathlib.Path(found.submodule_search_locations[0]) / "bench_serving.py"
    for backend in ("sglang", "sglang-oai"):
        result = scratch / f"{backend}.jsonl"
        run(str(program), "--backend", backend, "--base-url", server.url, "--model", "m", "--tokenizer", tokenizer,
            "--dataset-name", "random-ids", "--num-prompts", str(REQUESTS), "--random-input-len", "96",
            "--random-output-len", "8", "--random-range-ratio", "1.0", "--output-file", str(result), "--flush-cache")
        figures = json.loads(result.read_text().splitlines()[-1])
        assert figures["completed"] == REQUESTS, figures
        assert figures["total_output_tokens"] == 8 * REQUESTS, figures
        print("ok bench_serving", backend, f"median TTFT {figures['median_ttft_ms']:.1f} ms")


def guidellm(server, tokenizer, scratch):
    result = scratch / "guidellm.json"
    run("-m", "guidellm", "benchmark", "run", "--target", server.url, "--model", "m", "--processor", tokenizer,
        "--rate-type", "concurrent", "--rate", "3", "--max-requests", str(REQUESTS), "--data",
        json.dumps({"prompt_tokens": 64, "output_tokens": 8}), "--output-path", str(result), "--disable-progress")
    benchmark = json.loads(result.read_text())["benchmarks"][0]
    totals = (benchmark.get("run_stats") or benchmark["metrics"])["request_totals" if "metrics" in benchmark and
                                                                   "run_stats" not in benchmark else "requests_made"]
    assert totals["successful"] == REQUESTS and totals["errored"] == 0, totals
    print("ok guidellm", totals)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    clients = [(bench_serving, "sglang"), (guidellm, "guidellm")]
    there = [client for client, package in clients if importlib.util.find_spec(package)]
    for client, package in clients:
        if client not in there:
            print(f"left out: the {package} package is not installed")
    if not there:
        sys.exit(77)
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        model = scratch / "m"
        subprocess.run([program, "checkpoint", "make", str(model), "--preset", "tiny"], check=True, capture_output=True)
        (scratch / "tokenizer").mkdir()
        tokenizer = tokenizer_of(model, scratch / "tokenizer")
        with sluice_server.serving(program, model, scratch / "server.log", "--pp-size", "2") as server:
            for client in there:
                client(server, tokenizer, scratch)


if __name__ == "__main__":
    main()
    sys.exit(0)
