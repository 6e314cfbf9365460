"""A stall as an operator sees it: a rank's message is late by a fault plan, /ready answers 503 with the verdict while
/live stays 200, the stall report is there as JSON and on SIGQUIT, the server lives, and when the rank arrives the client
has its answer, /ready is 200 and the log says so. And bad fault plans are refused before anything starts.

Standard library only, and ../server/sluice_server.py. Usage: stall_server_test.py --sluice PROGRAM"""

import argparse
import json
import pathlib
import signal
import subprocess
import tempfile
import threading

from sluice_server import SluiceServer, until

LIMIT = 60.0
PLAN = [{"step": 2, "rank": 1, "where": "hop", "do": "delay", "seconds": 6}]
FLAGS = ["--pp-size", "3", "--context-length", "2048", "--chunked-prefill-size", "64", "--stall-report-after", "1.5",
         "--watchdog-timeout", "60"]

# contents of the plan, flags, what the sentence must contain
REFUSED = [
    ([{"step": 2, "rank": 3, "do": "drop"}], [], ["entry 1", '"rank": 3', "0 to 2"]),
    ([{"step": 2, "rank": 1, "do": "vanish"}], [], ["entry 1", '"do": "vanish"', "delay, drop"]),
    ([{"step": 2, "rank": 1, "do": "stop"}], [], ["entry 1", '"do": "stop"', "--ranks processes"]),
    ("\"not a list\"", [], ["no list of faults"]),
    ([], ["--stall-report-after", "0.5"], ["--stall-report-after 0.5", "1 to"]),
]


def check_stall(program, model, directory):
    plan = directory / "plan.json"
    plan.write_text(json.dumps(PLAN))
    log = directory / "server.log"
    server = SluiceServer(program, model, log, "--fault-plan", str(plan), *FLAGS)
    try:
        assert server.ask("GET", "/ready")[0] == 200 and server.ask("GET", "/stall_report")[1]["status"] == "ok"

        answers = []
        body = {"model": "m", "prompt": [17 + i * 37 % 900 for i in range(400)], "max_tokens": 3, "temperature": 0}
        client = threading.Thread(target=lambda: answers.append(server.ask("POST", "/v1/completions", body)))
        client.start()
        status, answer = until(lambda: (r := server.ask("GET", "/ready"))[0] == 503 and r, "no 503 of /ready")
        assert answer["error"]["code"] == "stalled", answer
        assert answer["error"]["message"].startswith("rank 1 (stage 1, lane 0)"), answer
        assert "rank 2 (stage 2, lane 0)" in answer["error"]["message"] and "hop receive" in answer["error"]["message"]
        assert server.ask("GET", "/live")[0] == 200
        report = server.ask("GET", "/stall_report")[1]
        assert (report["status"], report["named_rank"]) == ("stalled", 1), report
        assert 2 in report["due_steps"], report
        waiting = report["ranks"][2]
        assert (waiting["wait"]["op"], waiting["wait"]["peer"], waiting["step"]) == ("hop receive", 1, 2), waiting
        assert waiting["wait"]["bytes"] > 0 and waiting["wait"]["seconds"] > 1.5 and waiting["host"], waiting
        server.process.send_signal(signal.SIGQUIT)
        until(lambda: "stall report" in log.read_text() and report["text"].splitlines()[-1][:12] in log.read_text(),
              "the log has no report")
        assert server.process.poll() is None, "SIGQUIT ended the server"

        until(lambda: server.ask("GET", "/ready")[0] == 200, "no 200 of /ready")
        client.join(LIMIT)
        assert answers and answers[0][0] == 200, answers
        until(lambda: "the stall is over" in log.read_text(), "the log has no end of the stall")
        assert "stalled: rank 1 (stage 1, lane 0)" in log.read_text()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=20) == 0, log.read_text()
    finally:
        server.process.kill()
        server.process.wait()
    print("ok a stall is reported, shown on request and forgotten when it is over")


def check_refusals(program, model, directory):
    plan = directory / "bad.json"
    for content, flags, phrases in REFUSED:
        given = flags or FLAGS
        plan.write_text(content if isinstance(content, str) else json.dumps(content))
        run = subprocess.run([program, "serve", "--model-path", model, "--port", "0", "--fault-plan", str(plan), *given],
                             capture_output=True, text=True, timeout=60)
        said = run.stderr + run.stdout
        assert run.returncode == 2, (content, run.returncode, said)
        assert not [phrase for phrase in phrases if phrase not in said], (content, phrases, said)
    print(f"ok {len(REFUSED)} refusals")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        model = str(directory / "model")
        subprocess.run([program, "checkpoint", "make", model, "--preset", "tiny", "--dtype", "f32"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        check_refusals(program, model, directory)
        check_stall(program, model, directory)


if __name__ == "__main__":
    main()
