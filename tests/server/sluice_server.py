"""Starts the real program on a checkpoint and ends it well."""

import contextlib
import re
import signal
import subprocess

LIMIT = 120.0


class SluiceServer:
    def __init__(self, program, model, log, *flags, environment=None):
        if "--context-length" not in flags:
            flags = ("--context-length", "2048", *flags)
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                [program, "serve", "--model-path", str(model), "--served-model-name", "m", "--port", "0", *flags], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        self.log = log
        line = self.process.stdout.readline()
        found = re.search(r"https?://[\d.]+:(\d+)", line)
        assert found, log.read_text()
        self.url = found[0]
        self.port = int(found[1])


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
