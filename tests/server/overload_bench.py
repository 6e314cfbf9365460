"""What three times the load that a server can take does to it: the time to the first token of the requests it accepts,
against that of a server that is just full, and how soon the others are refused. Prints ratios; asserts nothing about time.
Standard library only. Usage: overload_bench.py --sluice PROGRAM [--seconds 20]"""

import argparse
import asyncio
import itertools
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import sluice_server

RUNNING, QUEUED = 4, 1
PROMPT, ANSWER = 256, 8
serial = itertools.count(1)


async def ask(port):
    """(status, seconds to the first token or to the refusal, seconds to the end) of one request with a prompt of its own."""
    number = next(serial)
    prompt = [7 + (number * 7919 + i * 37) % 900 for i in range(PROMPT)]
    body = json.dumps({"model": "m", "prompt": prompt, "max_tokens": ANSWER, "ignore_eos": True, "temperature": 0,
                       "stream": True, "return_token_ids": True}).encode()
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: application/json\r\n"
                 b"Content-Length: %d\r\n\r\n" % len(body) + body)
    status = int((await reader.readline()).split()[1])
    seen = b""
    first = None
    while part := await reader.read(4096):
        seen += part
        if first is None and (status != 200 or b"data: " in seen):
            first = time.monotonic() - begin
    writer.close()
    assert status == 503 or b"data: [DONE]" in seen, (status, seen[-300:])
    return status, first, time.monotonic() - begin


async def full(port, seconds):
    """As many clients as the server has places, each asking again when it has its answer."""
    answers = []

    async def client():
        while time.monotonic() < end:
            answers.append(await ask(port))

    end = time.monotonic() + seconds
    await asyncio.gather(*(client() for _ in range(RUNNING + QUEUED)))
    assert all(status == 200 for status, _, _ in answers), "a full server refused a request it had a place for"
    return answers


async def overloaded(port, seconds, rate):
    """Requests at a fixed rate, whatever becomes of them."""
    asked = []
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        asked.append(asyncio.create_task(ask(port)))
        await asyncio.sleep(max(0.0, begin + len(asked) / rate - time.monotonic()))
    return await asyncio.gather(*asked)


def shown(values):
    ordered = sorted(values)
    return f"median {statistics.median(ordered) * 1e3:.1f} ms, 95 % {ordered[int(len(ordered) * 0.95)] * 1e3:.1f} ms"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        model = scratch / "m"
        subprocess.run([options.sluice, "checkpoint", "make", str(model), "--preset", "tiny"], check=True,
                       capture_output=True)
        with sluice_server.serving(options.sluice, model, scratch / "server.log", "--max-running-requests", str(RUNNING),
                                   "--max-queued-requests", str(QUEUED), "--chunked-prefill-size", str(PROMPT),
                                   "--log-level", "warning") as server:
            asyncio.run(full(server.port, 2))  # warm
            at_capacity = asyncio.run(full(server.port, options.seconds))
            rate = len(at_capacity) / options.seconds
            answers = asyncio.run(overloaded(server.port, options.seconds, 3 * rate))
    accepted = [first for status, first, _ in answers if status == 200]
    refused = [first for status, first, _ in answers if status == 503]
    before = [first for _, first, _ in at_capacity]
    assert accepted and refused, "an overload accepts some and refuses some"
    print(f"full:      {rate:.1f} requests/s, first token {shown(before)}")
    print(f"3 x load:  {len(accepted)} of {len(answers)} accepted, first token {shown(accepted)}")
    print(f"           {len(refused)} refused, answered in {shown(refused)}")
    ratio = statistics.median(accepted) / statistics.median(before)
    print(f"first token of accepted requests at 3 x load / full: {ratio:.2f} (wanted: at most 1.3)")
    print(f"slowest refusal: {max(refused) * 1e3:.1f} ms (wanted: below 50)")


if __name__ == "__main__":
    main()
