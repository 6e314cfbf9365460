"""`sluice bench serve` against the scripted engine: what it counts, what it keeps, and what it does with requests that
fail, malformed traces and servers that are gone or silent. Usage: bench_serve_test.py --sluice PROGRAM --server PROGRAM
(tests/server/fake_server.cc)"""

import argparse
import contextlib
import html.parser
import http.server
import json
import pathlib
import statistics
import subprocess
import tempfile
import threading
import urllib.request

from sluice_server import until


@contextlib.contextmanager
def fake_server(program):
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().strip(), server
        finally:
            server.kill()


def bench(program, url, *flags, code=0):
    finished = subprocess.run([program, "bench", "serve", "--base-url", url, *flags], capture_output=True, text=True,
                              timeout=60)
    assert finished.returncode == code, (finished.returncode, finished.stdout[-2000:], finished.stderr[-2000:])
    return finished


def results(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def trace(path, *prompts):
    path.write_text("".join(json.dumps({"prompt": prompt, "output_length": 8}) + "\n" for prompt in prompts))
    return ["--dataset-name", "mooncake", "--dataset-path", str(path)]


class Elements(html.parser.HTMLParser):
    """Which elements a page has, and that every one that is opened is closed."""

    def __init__(self):
        super().__init__()
        self.seen, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def counts_and_keeps(program, url, scratch):
    kept, page = scratch / "runs.jsonl", scratch / "page.html"
    finished = bench(program, url, "--num-prompts", "12", "--random-input-len", "40", "--random-output-len", "5",
                     "--random-range-ratio", "1", "--max-concurrency", "1,3", "--output-file", str(kept),
                     "--output-details", "--report", str(page), "--cache-report")
    runs = results(kept)
    assert [run["max_concurrency"] for run in runs] == [1, 3], runs
    for run in runs:
        assert (run["completed"], run["failed"], run["ended_early"]) == (12, 0, None), run
        assert run["total_input_tokens"] == 12 * 40 and run["total_output_tokens"] == 12 * 5, run
        # The figures are those of the requests, by another implementation.
        assert abs(statistics.median(run["ttfts"]) * 1e3 - run["median_ttft_ms"]) < 1e-6, run
        gaps = [gap for gaps in run["itls"] for gap in gaps]
        assert abs(statistics.mean(gaps) * 1e3 - run["mean_itl_ms"]) < 1e-6, run
        assert all(text == "Hello " for text in run["generated_texts"]), run["generated_texts"]
        assert abs(run["request_throughput"] - 12 / run["duration"]) < 1e-6
    assert finished.stdout.count("============ Serving Benchmark Result ============") == 2
    assert finished.stdout.count("Successful requests:                     12        \n") == 2
    # What the scripted engine says of its ranks: one at work for half of 4 s, one never.
    assert "The server's last busy period: 4.000 s, bubble 75.0 %\n" in finished.stdout, finished.stdout
    assert "  stage 1: compute  50.0 %, wait   0.0 %, hop  25.0 %, idle  25.0 %\n" in finished.stdout, finished.stdout
    elements = Elements()
    elements.feed(page.read_text())
    assert not elements.open and elements.seen.count("svg") == 2, elements.seen


def failures_are_counted(program, url, scratch):
    kept = scratch / "failed.jsonl"
    finished = bench(program, url, *trace(scratch / "t.jsonl", "hi", "BREAK", "hi"), "--output-file", str(kept), code=1)
    run = results(kept)[0]
    assert (run["completed"], run["failed"], run["ended_early"]) == (2, 1, None), run
    assert "Failed requests:                         1         \n" in finished.stdout
    assert "met a NaN" in finished.stdout, finished.stdout


def malformed_lines_are_named(program, url, scratch):
    path = scratch / "bad.jsonl"
    flags = trace(path, "hi", "hi")
    path.write_text(path.read_text() + "not JSON\n")
    finished = bench(program, url, *flags, code=2)
    assert f"{path}:3: it is not JSON\n" in finished.stderr and "has 1 malformed line" in finished.stderr
    assert f"{path}:3: it is not JSON\n" in bench(program, url, *flags, "--allow-bad-lines").stderr


def flags_are_checked(program, url, scratch):
    for flags, sentence in ((["--request-rate", "-1"], "--request-rate -1 is no rate"),
                            (["--dataset-name", "sharegpt"], "--dataset-name sharegpt is not known"),
                            (["--max-concurrency", "0"], "--max-concurrency 0 is out of range: use 1 to 10000"),
                            (["--dataset-path", "x"], "belong together"),
                            (["--extra-request-body", "[]"], "is no JSON object"),
                            (["--output-file", str(scratch / "none" / "x")], "cannot be written")):
        assert sentence in bench(program, url, *flags, code=2).stderr, (flags, sentence)
    assert "the warm-up request failed" in bench(program, url, "--random-input-len", "100k",
                                                 "--random-range-ratio", "1", code=2).stderr


def running(url):
    with urllib.request.urlopen(url + "/get_load", timeout=5) as answer:
        return json.load(answer)[0]


def a_server_that_dies_ends_the_run(program, fake, scratch):
    kept = scratch / "partial.jsonl"
    with fake_server(fake) as (url, server):
        flags = trace(scratch / "gone.jsonl", "hi", "HOLD", "hi")
        with subprocess.Popen([program, "bench", "serve", "--base-url", url, *flags, "--max-concurrency", "1",
                               "--output-file", str(kept)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as client:
            # The only request that stays; the server says that it is alive meanwhile.
            seen = []

            def held():
                seen.append(running(url)["num_running_reqs"])
                return seen[-10:] == [1] * 10
            until(held, "the request that is held never came", limit=30)
            server.kill()
            out, errors = client.communicate(timeout=30)
    assert client.returncode == 6, (client.returncode, out, errors)
    run = results(kept)[0]
    assert (run["completed"], run["failed"]) == (1, 1) and run["ended_early"], run
    assert "Ended early: " in out and "the run ended early, with 1 of its requests answered" in errors, (out, errors)


class Silent(http.server.BaseHTTPRequestHandler):
    """Names a model, and never answers a completion."""
    over = threading.Event()

    def do_GET(self):
        body = b'{"data": [{"id": "m"}]}' if self.path == "/v1/models" else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.over.wait()

    def log_message(self, *arguments):
        pass


def a_silent_server_ends_the_run(program, scratch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kept = scratch / "silent.jsonl"
        finished = bench(program, f"http://127.0.0.1:{server.server_port}", "--num-prompts", "3", "--warmup-requests",
                         "0", "--timeout", "1", "--max-concurrency", "1", "--output-file", str(kept), code=6)
        assert "token ids below 32000" in finished.stdout, finished.stdout
        run = results(kept)[0]
        assert run["completed"] == 0 and "silent" in run["ended_early"], run
        Silent.over.set()
        server.shutdown()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--server", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        with fake_server(options.server) as (url, _):
            for check in (counts_and_keeps, failures_are_counted, malformed_lines_are_named, flags_are_checked):
                check(options.sluice, url, scratch)
                print("ok", check.__name__)
        a_server_that_dies_ends_the_run(options.sluice, options.server, scratch)
        print("ok a_server_that_dies_ends_the_run")
        a_silent_server_ends_the_run(options.sluice, scratch)
        print("ok a_silent_server_ends_the_run")


if __name__ == "__main__":
    main()
