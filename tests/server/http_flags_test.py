"""The flags of the HTTP server on the real program: keys, the admin listener, CORS, TLS, what is said while the model
is loaded, and the drain. Standard library only. Usage: http_flags_test.py --sluice PROGRAM

Flags shown here: --api-key, --api-key-file, --admin-api-key, --admin-port, --cors-allow-origin, --ssl-certfile,
--ssl-keyfile, --drain-timeout, --health-generate-timeout, --max-prompt-logprobs."""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import tempfile
import threading
import time

from sluice_server import SluiceServer, ask, free_port, until

LIMIT = 60.0
LONG = {"model": "m", "prompt": [5] * 16, "max_tokens": 1500, "ignore_eos": True, "temperature": 0}


class Server(SluiceServer):
    def __init__(self, program, model, log, *flags, environment=None):
        super().__init__(program, model, log, *flags, environment={**os.environ, **(environment or {})})
        admin = re.search(r"admin listener on 127.0.0.1:(\d+)", log.read_text())
        self.admin_port = int(admin[1]) if admin else None

    def ask(self, method, path, body=None, key=None, port=None, headers=None, tls=None):
        headers = {"Content-Type": "application/json", **(headers or {})}
        if key:
            headers["Authorization"] = "Bearer " + key
        where = ("127.0.0.1", port or self.port)
        connection = (http.client.HTTPSConnection(*where, timeout=LIMIT, context=tls) if tls
                      else http.client.HTTPConnection(*where, timeout=LIMIT))
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        self.headers = answer.headers
        return answer.status, json.loads(answer.read())

    def status(self, *arguments, **named):
        return self.ask(*arguments, **named)[0]

    def end(self, code=0):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=LIMIT) == code, self.log.read_text()


@contextlib.contextmanager
def serving(*arguments, **named):
    server = Server(*arguments, **named)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def refused(program, model, *flags):
    run = subprocess.run([program, "serve", "--model-path", model, "--port", "0", *flags], capture_output=True,
                         text=True, timeout=LIMIT)
    assert run.returncode == 2, (flags, run.stderr)
    return run.stderr


def keys(program, model, directory):
    file = directory / "keys"
    file.write_text("# clients\nfile-key-1\n")
    file.chmod(0o600)
    with serving(program, model, directory / "keys.log", "--api-key-file", str(file), "--admin-api-key",
                 "admin-key-1", "--cors-allow-origin", "https://page.example",
                 environment={"SLUICE_API_KEY": "variable-key"}) as server:
        assert server.status("GET", "/live") == 200
        assert server.ask("GET", "/v1/models")[1]["error"]["code"] == "invalid_api_key"
        assert server.headers["WWW-Authenticate"] == "Bearer"
        for key in ("file-key-1", "variable-key", "admin-key-1"):
            assert server.status("GET", "/v1/models", key=key) == 200
        assert server.status("POST", "/flush_cache", {}, key="file-key-1") == 403
        assert server.status("POST", "/flush_cache", {}, key="admin-key-1") == 200
        told = json.dumps(server.ask("GET", "/get_server_info", key="file-key-1")[1]) + server.log.read_text()
        for secret in ("file-key-1", "variable-key", "admin-key-1"):
            assert secret not in told, "a key is shown"
        origin = {"Origin": "https://page.example"}
        assert server.status("OPTIONS", "/v1/completions", headers=origin) == 200
        assert server.headers["Access-Control-Allow-Origin"] == "https://page.example"
        server.end()
    file.chmod(0o644)
    assert "chmod 600" in refused(program, model, "--api-key-file", str(file))


def admin_listener(program, model, directory):
    with serving(program, model, directory / "admin.log", "--admin-port", "0", "--health-generate-timeout", "30",
                 "--max-prompt-logprobs", "4") as server:
        assert server.status("POST", "/flush_cache", {}) == 403
        assert server.status("POST", "/flush_cache", {}, port=server.admin_port) == 200
        assert server.status("GET", "/health_generate") == 200
        echo = {"model": "m", "prompt": [5] * 5, "max_tokens": 0, "echo": True, "logprobs": 0}
        assert server.ask("POST", "/v1/completions", echo)[1]["error"]["code"] == "out_of_range"
        assert server.status("POST", "/v1/completions", {**echo, "prompt": [5] * 4}) == 200
        server.end()


def tls(program, model, directory):
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=sluice",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
                   check=True, capture_output=True)
    context = ssl.create_default_context(cafile=str(cert))
    with serving(program, model, directory / "tls.log", "--ssl-certfile", str(cert), "--ssl-keyfile", str(key)) as server:
        assert server.url.startswith("https://")
        body = {"model": "m", "prompt": [5] * 16, "max_tokens": 3, "temperature": 0}
        status, answer = server.ask("POST", "/v1/completions", body, tls=context)
        assert status == 200 and answer["usage"]["completion_tokens"] == 3
        server.end()
    assert "--ssl-keyfile" in refused(program, model, "--ssl-certfile", str(cert))
    assert "cannot be used" in refused(program, model, "--ssl-certfile", str(key), "--ssl-keyfile", str(key))


def post_in_background(server, body):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(server.ask("POST", "/v1/completions", body)))
    thread.start()
    until(lambda: server.ask("GET", "/get_load")[1][0]["num_reqs"] > 0, "the request did not come", every=0.02)
    return thread, answers


def drain(program, model, directory):
    """What runs is finished, what comes is refused, and nothing is left out of the answer."""
    with serving(program, model, directory / "drain.log") as server:
        thread, answers = post_in_background(server, {**LONG, "max_tokens": 400})
        server.process.send_signal(signal.SIGTERM)
        seen = []
        while not answers:
            try:
                seen.append(server.ask("GET", "/ready"))
                seen.append(server.ask("POST", "/v1/completions", {**LONG, "max_tokens": 1}))
            except OSError:
                break  # it has ended
        thread.join(LIMIT)
        assert any(status == 503 and answer["error"]["code"] == "draining" for status, answer in seen), seen
        assert answers[0][0] == 200 and answers[0][1]["usage"]["completion_tokens"] == 400
        assert server.process.wait(timeout=LIMIT) == 0


def drain_ends(program, model, directory):
    """After --drain-timeout, or with a second signal, what still runs is ended with an error."""
    for flags, signals in ((["--drain-timeout", "1"], 1), ([], 2)):
        with serving(program, model, directory / "ends.log", *flags) as server:
            thread, answers = post_in_background(server, LONG)
            for _ in range(signals):
                server.process.send_signal(signal.SIGTERM)
                time.sleep(0.3)
            thread.join(LIMIT)
            # A machine so fast that the answer is complete in a second has nothing to end.
            assert answers[0][0] == 200 or answers[0][1]["error"]["code"] == "draining", answers
            assert server.process.wait(timeout=LIMIT) == 0


def loading(program, model, directory):
    """The server listens before its ranks are ready: here they never come, since the other node is not started."""
    log = directory / "loading.log"
    with open(log, "w") as errors:
        process = subprocess.Popen(
            [program, "serve", "--model-path", model, "--port", "0", "--pp-size", "2", "--nnodes", "2", "--node-rank",
             "0", "--dist-init-addr", f"127.0.0.1:{free_port()}"], stdout=subprocess.PIPE, stderr=errors,
            env={**os.environ, "SLUICE_JOB_SECRET": "a secret of this test"})
    try:
        def listening():
            assert process.poll() is None, log.read_text()
            return re.search(r"listening on 127.0.0.1:(\d+)", log.read_text())
        port = int(until(listening, log.read_text, LIMIT)[1])
        for path, status in (("/live", 200), ("/ready", 503), ("/v1/models", 503)):
            got, body = ask(port, "GET", path)
            assert got == status, (path, got)
            assert status == 200 or body["error"]["code"] == "loading", body
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = scratch + "/m"
        subprocess.run([options.sluice, "checkpoint", "make", checkpoint, "--preset", "tiny"], check=True,
                       capture_output=True)
        for check in (keys, admin_listener, tls, drain, drain_ends, loading):
            check(options.sluice, checkpoint, pathlib.Path(scratch))
            print("ok", check.__name__)
