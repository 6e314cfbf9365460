"""A client that leaves in mid-prefill and asks again: the second answer begins with the chunks that were computed for the
first, which cached_tokens says, and has the bits of a cold run. Standard library only.
Usage: resume_test.py --sluice PROGRAM"""

import argparse
import http.client
import json
import pathlib
import subprocess
import tempfile

import sluice_server

PROMPT = [17 + i * 37 % 900 for i in range(1800)]
BODY = {"model": "m", "prompt": PROMPT, "max_tokens": 12, "temperature": 0, "logprobs": 5, "ignore_eos": True}


def post(server, body):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=sluice_server.LIMIT)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection, connection.getresponse()


def whole(server, **fields):
    connection, answer = post(server, {**BODY, **fields})
    body = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, body
    return body["choices"][0], body["usage"]["prompt_tokens_details"]["cached_tokens"]


def leave_in_mid_prefill(server, least):
    """Reads progress until `least` tokens of the prompt are done, and hangs up. Returns how many were done."""
    connection, answer = post(server, {**BODY, "stream": True, "return_progress": True})
    for line in answer:
        if b"prompt_progress" not in line:
            assert b'"text":""' not in line and line in (b"\n",) or line.startswith(b":"), line
            continue
        progress = json.loads(line[6:])["prompt_progress"]
        assert progress["cache"] == 0 and progress["total"] == len(PROMPT)
        assert progress["processed"] < len(PROMPT), "the prompt was done before the client could leave"
        if progress["processed"] >= least:
            answer.close()
            connection.close()
            return progress["processed"]
    raise AssertionError("no progress")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        model = scratch / "m"
        subprocess.run([program, "checkpoint", "make", str(model), "--preset", "tiny"], check=True, capture_output=True)
        # The delay of hops leaves the client time to leave.
        flags = ["--pp-size", "2", "--chunked-prefill-size", "64"]
        with sluice_server.serving(program, model, scratch / "slow.log", *flags, "--emulate-link-delay-ms", "60",
                                   "--pp-async-batch-depth", "0") as server:
            done = leave_in_mid_prefill(server, 256)
            sluice_server.until(lambda: server.ask("GET", "/get_load")[1][0]["num_reqs"] == 0,
                                "the request of a client that left still runs")
            resumed, cached = whole(server)
            assert done // 64 * 64 <= cached < len(PROMPT), (done, cached)
            cold, none = whole(server, cache_salt="of its own")
            assert none == 0
            assert resumed == cold, "a resumed answer differs from a cold one"
            again, all_cached = whole(server)
            assert all_cached >= len(PROMPT) // 64 * 64 - 64 and again == cold
        with sluice_server.serving(program, model, scratch / "other.log") as server:
            other, none = whole(server)
            assert none == 0 and other == cold, "another layout answers differently"
        print(f"ok left after {done} of {len(PROMPT)} tokens, {cached} were in the cache, the answers are equal")


if __name__ == "__main__":
    main()
