"""Many streams and bad readers against the scripted server: 500 streams at once are answered whole and take bounded
memory, clients that do not read are cut, slow requests and half requests do not stop service. Standard library only, and
slowhttptest (a Debian package) when it is installed. Usage: crowd_test.py --server PROGRAM"""

import asyncio
import json
import pathlib
import shutil
import subprocess
import sys

STREAMS = 500
UNREAD = 60
BOUND = 128 << 20  # bytes that the server may grow by; the streams that are not read would take 60 x 1.5 MB and more


def request(prompt, **fields):
    body = json.dumps({"model": "tiny", "prompt": prompt, "stream": True, **fields}).encode()
    return (b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body)


def resident(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


async def stream(port, prompt):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(prompt))
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200") and b"data: [DONE]" in answer, answer[:300]
    return answer.count(b'"text":"')


async def alive(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /live HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200"), answer


async def many_streams(port, process):
    before = resident(process)
    chunks = await asyncio.gather(*(stream(port, "SLOW") for _ in range(STREAMS)))
    assert len(set(chunks)) == 1, "some streams are shorter than others"
    grown = resident(process) - before
    assert grown < BOUND, f"{grown >> 20} MB for {STREAMS} streams"
    print(f"ok {STREAMS} streams of {chunks[0]} chunks; the server grew by {grown >> 20} MB")


async def unread_streams(port, process):
    before = resident(process)
    held = []
    for _ in range(UNREAD):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        reader._transport.pause_reading()
        writer.write(request("FLOOD", max_tokens=4000, logprobs=5, return_token_ids=True))
        held.append((reader, writer))
    await asyncio.sleep(1)
    await asyncio.gather(*(stream(port, "SLOW") for _ in range(20)))  # the others are served all the while
    cut = 0
    for reader, writer in held:
        reader._transport.resume_reading()
        try:
            while part := await asyncio.wait_for(reader.read(1 << 20), 10):
                last = part
            cut += b"[DONE]" not in last
        except ConnectionError:
            cut += 1
        writer.close()
    assert cut > 0, "no reader was cut"
    grown = resident(process) - before
    assert grown < BOUND, f"{grown >> 20} MB for {UNREAD} streams that nobody reads"
    print(f"ok {cut} of {UNREAD} clients that did not read were cut; the server grew by {grown >> 20} MB")


async def half_requests(port, process):
    held = []
    for i in range(200):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write([b"GET /live HT", b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n{",
                      b""][i % 3])
        held.append(writer)
    for _ in range(5):
        await alive(port)
        await stream(port, "Hello")
    for writer in held:
        writer.close()
    print("ok 200 requests that never end do not stop service")


async def slowhttptest(port, process):
    if shutil.which("slowhttptest") is None:
        print("left out: slowhttptest is not installed")
        return
    for mode in ("-H", "-B", "-X"):
        attack = await asyncio.create_subprocess_exec(
            "slowhttptest", mode, "-c", "300", "-r", "150", "-i", "2", "-l", "6", "-u",
            f"http://127.0.0.1:{port}/v1/models", "-p", "3", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while attack.returncode is None:
            await alive(port)
            await stream(port, "Hello")
            await asyncio.sleep(0.2)
            await asyncio.wait([asyncio.create_task(attack.wait())], timeout=0.01)
        print("ok served all through slowhttptest", mode)


def main():
    program = sys.argv[sys.argv.index("--server") + 1]
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline().strip().rsplit(":", 1)[1])
        for check in (many_streams, unread_streams, half_requests, slowhttptest):
            asyncio.run(check(port, process))
        process.stdin.close()
        assert process.wait(timeout=20) == 0


if __name__ == "__main__":
    main()
