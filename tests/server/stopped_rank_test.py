"""kill -STOP of one rank process, as an orchestrator sees it: /ready answers 503 `stalled` with the rank's name once the
soft limit has passed, /live answers 200 all the while, and the server lives. When the rank goes on, /ready is 200 again and
the client has its answer; when it does not, the hard limit ends the job with code 5 and the same rank's name.
Standard library only. Usage: stopped_rank_test.py --sluice PROGRAM"""

import argparse
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

import sluice_server
from sluice_server import until

SOFT, HARD = 2, 12
BODY = {"model": "m", "prompt": [5 + i % 800 for i in range(1500)], "max_tokens": 300, "ignore_eos": True}


def stop_rank(server, answers):
    """Stops rank 1 under a request, and waits until /ready says so. Returns its pid and when it was stopped."""
    def ask():
        try:
            answers.append(server.ask("POST", "/v1/completions", BODY))
        except OSError as error:
            answers.append(error)
    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: server.ask("GET", "/get_load")[1][0]["num_reqs"] > 0, "the request did not come", every=0.01)
    pid = server.rank_process(1)
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()

    def stalled():
        status, body = server.ask("GET", "/ready")
        assert server.ask("GET", "/live")[0] == 200
        return body if status == 503 else None
    body = until(stalled, "no word of a rank that was stopped", limit=HARD)
    print(f"/ready turned 503 {time.monotonic() - begin:.1f} s after the rank was stopped (soft limit {SOFT} s)")
    assert body["error"]["code"] == "stalled" and body["error"]["message"].startswith("rank 1 "), body
    return pid, begin, thread


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        model = scratch / "m"
        subprocess.run([program, "checkpoint", "make", str(model), "--preset", "tiny"], check=True, capture_output=True)
        flags = ["--pp-size", "2", "--ranks", "processes", "--stall-report-after", str(SOFT), "--watchdog-timeout",
                 str(HARD), "--chunked-prefill-size", "64"]
        with sluice_server.serving(program, model, scratch / "goes_on.log", *flags) as server:
            answers = []
            pid, _, thread = stop_rank(server, answers)
            os.kill(pid, signal.SIGCONT)
            thread.join(60)
            assert answers[0][0] == 200, answers
            assert server.ask("GET", "/ready")[0] == 200
            print("ok a rank that goes on: /ready is 200 again, the answer is there")
        server = sluice_server.SluiceServer(program, model, scratch / "ends.log", *flags)
        try:
            answers = []
            _, begin, thread = stop_rank(server, answers)
            while server.process.poll() is None:
                try:
                    live = server.ask("GET", "/live")[0]
                except OSError:
                    break
                assert live == 200
                time.sleep(0.05)
            print(f"/live was 200 until {time.monotonic() - begin:.1f} s after (hard limit {HARD} s)")
            assert server.process.wait(timeout=60) == 5, server.log.read_text()
            thread.join(60)
            said = server.log.read_text()
            assert "rank 1 " in said.splitlines()[-1], said[-500:]
            assert isinstance(answers[0], OSError) or answers[0][1]["error"]["code"] == "rank_lost", answers
            print("ok a rank that does not: code 5 and its name")
        finally:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()


if __name__ == "__main__":
    main()
