"""Starts the real program on a checkpoint, asks it, waits for what it is to do, and ends it well."""

import contextlib
import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import time

LIMIT = 120.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, method, path, body=None):
    """Status and JSON of one request to the loopback; None for an empty answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or "null")


def until(happened, why, limit=60.0, every=0.05):
    """What `happened()` returns as soon as it is true; after `limit` seconds a failure with `why`, or with what that returns."""
    deadline = time.monotonic() + limit
    while True:
        found = happened()
        if found:
            return found
        assert time.monotonic() < deadline, why() if callable(why) else why
        time.sleep(every)


class SluiceServer:
    def __init__(self, program, model, log, *flags, environment=None):
        if "--context-length" not in flags:
            flags = ("--context-length", "2048", *flags)
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                [program, "serve", "--model-path", str(model), "--served-model-name", "m", "--port", "0", *flags],
                stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        self.log = log
        line = self.process.stdout.readline()
        found = re.search(r"https?://[\d.]+:(\d+)", line)
        assert found, log.read_text()
        self.url = found[0]
        self.port = int(found[1])

    def ask(self, method, path, body=None):
        return ask(self.port, method, path, body)

    def rank_process(self, rank):
        """The process id of this rank, a child of the server."""
        for child in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            for pid in child.read_text().split():
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"--rank" in words and int(words[words.index(b"--rank") + 1]) == rank:
                    return int(pid)
        raise AssertionError(f"no process of rank {rank}")


@contextlib.contextmanager
def serving(program, model, log, *flags, environment=None):
    """A server on a free port, with a context of 2,048 tokens unless the flags say another; its requests under way end with it."""
    server = SluiceServer(program, model, log, *flags, environment=environment)
    try:
        yield server
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=LIMIT) == 0, log.read_text()
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
