"""Writes vectors.json, metrics of made-up runs by NumPy, and result_block.txt, how Python writes one of them. The
definitions are those of SGLang's bench_serving (docs/benchmarking.md), in NumPy's own functions.
Usage: make_vectors.py DIRECTORY"""

import json
import pathlib
import sys

import numpy as np

SECOND = 1_000_000_000


def made_up(random, requests, chunks, failed):
    """Records as bench::RequestRecord has them, times in nanoseconds."""
    records = []
    for i in range(requests):
        start = int(random.integers(5 * SECOND, 9 * SECOND))
        count = int(random.integers(0, chunks + 1))
        times = (start + np.cumsum(random.integers(1_000, SECOND, size=count))).tolist()
        end = (times[-1] if times else start) + int(random.integers(0, SECOND // 2))
        records.append({
            "prompt_tokens": int(random.integers(1, 50_000)),
            "output_tokens": max(1, count + int(random.integers(0, 2))),
            "cached_tokens": 0,
            "start_ns": start,
            "chunk_ns": times,
            "end_ns": end,
            "error": "it failed" if i < failed else "",
        })
    return records


def of_values(values):
    values = np.asarray(values or [0.0])
    percentile = {f"p{p}": float(np.percentile(values, p)) for p in (90, 95, 99)}
    return {"mean": float(np.mean(values)), "median": float(np.median(values)), "std": float(np.std(values)),
            "max": float(np.max(values)), **percentile}


def metrics_of(records, seconds):
    good = [r for r in records if not r["error"]]
    latency = [(r["end_ns"] - r["start_ns"]) / 1e6 for r in good]
    ttft = [((r["chunk_ns"] or [r["end_ns"]])[0] - r["start_ns"]) / 1e6 for r in good]
    tpot = [(l - t) / (r["output_tokens"] - 1) for l, t, r in zip(latency, ttft, good) if r["output_tokens"] > 1]
    itl = [gap / 1e6 for r in good for gap in np.diff(r["chunk_ns"]).tolist()]
    peak_tokens = peak_requests = 0
    if good:
        first = min(r["start_ns"] for r in good)
        edges = np.arange(first, max(r["end_ns"] for r in good) + 2 * SECOND, SECOND)
        arrivals = [t for r in good for t in (r["chunk_ns"] or [r["end_ns"]])]
        peak_tokens = int(np.histogram(arrivals, edges)[0].max())
        under_way = [sum(r["start_ns"] < high and r["end_ns"] >= low for r in good)
                     for low, high in zip(edges[:-1], edges[1:])]
        peak_requests = int(max(under_way))
    tokens_in = sum(r["prompt_tokens"] for r in good)
    tokens_out = sum(r["output_tokens"] for r in good)
    return {
        "completed": len(good), "failed": len(records) - len(good), "input_tokens": tokens_in,
        "output_tokens": tokens_out, "request_throughput": len(good) / seconds,
        "input_throughput": tokens_in / seconds, "output_throughput": tokens_out / seconds,
        "total_throughput": (tokens_in + tokens_out) / seconds,
        "concurrency": float(np.sum(latency)) / 1e3 / seconds, "peak_output_throughput": peak_tokens,
        "peak_requests": peak_requests, "e2e": of_values(latency), "ttft": of_values(ttft), "tpot": of_values(tpot),
        "itl": of_values(itl),
    }


def block_of(metrics, seconds):
    def line(name, value):
        return "{:<40} {:<10}".format(name, value)

    def figure(name, value):
        return "{:<40} {:<10.2f}".format(name, value)

    def part(title, name, summary):
        return ["{s:{c}^{n}}".format(s=title, n=50, c="-")] + [
            figure(f"{shown} {name} (ms):", summary[key])
            for shown, key in (("Mean", "mean"), ("Median", "median"), ("P90", "p90"), ("P95", "p95"), ("P99", "p99"))]

    lines = ["{s:{c}^{n}}".format(s=" Serving Benchmark Result ", n=50, c="=")]
    lines += [line("Backend:", "sglang-oai"), line("Traffic request rate:", 4.0), line("Max request concurrency:", 16)]
    lines += [line("Successful requests:", metrics["completed"]), line("Failed requests:", metrics["failed"])]
    lines += [figure("Benchmark duration (s):", seconds), line("Total input tokens:", metrics["input_tokens"])]
    lines += [line("Total input text tokens:", metrics["input_tokens"])]
    lines += [line("Total generated tokens:", metrics["output_tokens"])]
    lines += [figure("Request throughput (req/s):", metrics["request_throughput"])]
    lines += [figure("Input token throughput (tok/s):", metrics["input_throughput"])]
    lines += [figure("Output token throughput (tok/s):", metrics["output_throughput"])]
    lines += [figure("Peak output token throughput (tok/s):", metrics["peak_output_throughput"])]
    lines += [line("Peak concurrent requests:", metrics["peak_requests"])]
    lines += [figure("Total token throughput (tok/s):", metrics["total_throughput"])]
    lines += [figure("Concurrency:", metrics["concurrency"])]
    lines += part("End-to-End Latency", "E2E Latency", metrics["e2e"])
    lines += part("Time to First Token", "TTFT", metrics["ttft"])
    lines += part("Time per Output Token (excl. 1st token)", "TPOT", metrics["tpot"])
    lines += part("Inter-Token Latency", "ITL", metrics["itl"]) + [figure("Max ITL (ms):", metrics["itl"]["max"])]
    return "\n".join(lines + ["=" * 50]) + "\n"


def main():
    directory = pathlib.Path(sys.argv[1])
    random = np.random.default_rng(7)
    runs = []
    for requests, chunks, failed in ((1, 0, 0), (1, 1, 0), (2, 9, 0), (3, 5, 3), (40, 12, 3), (17, 3, 1)):
        seconds = float(random.uniform(0.5, 20.0))
        records = made_up(random, requests, chunks, failed)
        runs.append({"seconds": seconds, "records": records, "metrics": metrics_of(records, seconds)})
    lists = [random.normal(10.0, 3.0, size=n).tolist() for n in (1, 2, 3, 4, 10, 101)]
    lists += [[3.0, 3.0, 3.0], list(range(1, 101)), [1e-9, 1e9]]
    percents = [0.0, 12.5, 25.0, 50.0, 66.6, 90.0, 95.0, 99.0, 99.9, 100.0]
    statistics = [{"values": values, "percents": [float(np.percentile(values, p)) for p in percents],
                   **of_values(values)} for values in lists]
    vectors = {"percents": percents, "statistics": statistics, "runs": runs}
    (directory / "vectors.json").write_text(json.dumps(vectors) + "\n")
    (directory / "result_block.txt").write_text(block_of(runs[4]["metrics"], runs[4]["seconds"]))


if __name__ == "__main__":
    main()
