"""Two commands on the loopback stand for two nodes: they give the one-node answer, and a rank killed in the middle of
a prefill is named, its client gets a well-formed error, both commands end with an error and nothing is left running.
Nodes with different secrets, models or layouts do not find together, and each side says why.
Clients that leave, waiting or in the middle of their answer, give their cache back.

Standard library only. Usage: nodes_test.py --sluice PROGRAM"""

import argparse
import http.client
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

from sluice_server import ask, free_port, until

LAYOUT = ["--pp-size", "2", "--tp", "2", "--enable-nsa-prefill-context-parallel", "--chunked-prefill-size", "128",
          "--context-length", "16384", "--max-total-tokens", "32768", "--watchdog-timeout", "4"]
SECRET = "5c1ce0fa11ed-the-secret-of-this-test"
START_LIMIT = 60.0
FAULT_LIMIT = 5.0


def rank_processes(join_address):
    """{rank: pid} of the rank processes that joined at this address."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "rank" in words and join_address in words:
            found[int(words[words.index("--rank") + 1])] = int(entry.name)
    return found


def check_none_left(join_address):
    until(lambda: not rank_processes(join_address), lambda: f"left running: {rank_processes(join_address)}", limit=5)


def environment(secret):
    kept = {name: value for name, value in os.environ.items() if name != "SLUICE_JOB_SECRET"}
    return kept if secret is None else {**kept, "SLUICE_JOB_SECRET": secret}


class Serving:
    """`sluice serve` as one command or several, up when the first line of node 0 says so."""

    def __init__(self, program, model, nodes, directory):
        self.port = free_port()
        self.join = f"127.0.0.1:{free_port()}"
        self.logs = [open(pathlib.Path(directory) / f"node{node}of{nodes}.log", "w+") for node in range(nodes)]
        self.commands = []
        for node in range(nodes):
            more = [] if nodes == 1 else ["--nnodes", str(nodes), "--node-rank", str(node), "--dist-init-addr", self.join]
            command = [program, "serve", "--model-path", model, "--served-model-name", "m", "--port", str(self.port)]
            self.commands.append(subprocess.Popen(command + LAYOUT + more, stdout=self.logs[node], stderr=self.logs[node],
                                                  env=environment(SECRET if nodes > 1 else None)))
        until(self.is_up, lambda: self.log(0), START_LIMIT)

    def is_up(self):
        assert self.commands[0].poll() is None, self.log(0)
        try:
            return self.call("GET", "/health")[0] == 200
        except OSError:
            return False

    def log(self, node):
        self.logs[node].seek(0)
        return self.logs[node].read()

    def call(self, method, path, body=None):
        return ask(self.port, method, path, body)

    def stream(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return answer

    def end(self):
        for command in self.commands:
            if command.poll() is None:
                command.send_signal(signal.SIGTERM)
        return [command.wait(timeout=20) for command in self.commands]


def check_one_answer(one, two):
    ids = [17 + i * 37 % 900 for i in range(700)]
    body = {"model": "m", "prompt": ids, "max_tokens": 12, "temperature": 0, "logprobs": 3, "return_token_ids": True}
    answers = []
    for server in (one, two):
        status, answer = server.call("POST", "/v1/completions", body)
        assert status == 200, answer
        answers.append(answer["choices"])
    assert answers[0] == answers[1], "two nodes answer differently from one"
    status, info = two.call("GET", "/get_server_info")
    assert status == 200 and info["nnodes"] == 2
    ranks = info["ranks"]
    assert [(r["rank"], r["stage"], r["lane"]) for r in ranks] == [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
    assert [r["layers"] for r in ranks] == [[[0, 2]], [[0, 2]], [[2, 4]], [[2, 4]]]
    rows = len(ids) + 11
    for stage in (0, 1):
        assert sum(r["rows_computed"] for r in ranks if r["stage"] == stage) == rows
    for sender, receiver in ((0, 2), (1, 3)):
        assert ranks[sender]["hop_bytes_sent"] == ranks[receiver]["hop_bytes_received"] == ranks[sender]["rows_computed"] * 256 * 4
    print("ok one answer on one node and on two")


def check_secret_is_kept(two):
    """No command line, answer or log has it; the rank processes have it in their environment, which only their user
    can read."""
    pids = [command.pid for command in two.commands] + list(rank_processes(two.join).values())
    assert len(pids) == 6, pids
    for pid in pids:
        process = pathlib.Path("/proc") / str(pid)
        assert SECRET.encode() not in (process / "cmdline").read_bytes()
        assert f"SLUICE_JOB_SECRET={SECRET}".encode() in (process / "environ").read_bytes().split(b"\0")
    assert SECRET not in json.dumps(two.call("GET", "/get_server_info")[1])
    assert not [node for node in (0, 1) if SECRET in two.log(node)]
    print("ok the secret is in the environments and nowhere else")


def check_refused_node(program, models, directory, name, change, phrases):
    """Node 1 differs from node 0 in `change`: it ends with code 2 and says why, node 0 names the missing ranks, and why,
    when --dist-timeout is over."""
    change = {"model": models[0], "secret": SECRET, "flags": [], **change}
    join = f"127.0.0.1:{free_port()}"
    commands, logs = [], []
    for node, ours in ((0, {"model": models[0], "secret": SECRET, "flags": []}), (1, change)):
        logs.append(open(pathlib.Path(directory) / f"{name}{node}.log", "w+"))
        command = [program, "serve", "--model-path", ours["model"], "--port", "0", *LAYOUT, "--nnodes", "2", "--node-rank",
                   str(node), "--dist-init-addr", join, "--dist-timeout", "3", *ours["flags"]]
        commands.append(subprocess.Popen(command, stdout=logs[node], stderr=logs[node], env=environment(ours["secret"])))
    codes = [command.wait(timeout=30) for command in commands]
    said = []
    for log in logs:
        log.seek(0)
        said.append(log.read())
    assert codes == [5, 2], (codes, said)
    for sentence, wanted in zip(said, phrases):
        assert not [phrase for phrase in wanted if phrase not in sentence], (wanted, said)
        assert SECRET not in sentence and change["secret"] not in sentence, said
    assert not rank_processes(join)
    print(f"ok a node with another {name} is refused on both sides")


def first_event(answer):
    while not (line := answer.readline()).startswith(b"data: "):
        assert line, "the stream ended"


def check_departed_clients(server):
    """Two such requests fill the cache, a third waits. Two more get tokens only when all three have given back what
    they had."""
    question = {"model": "m", "prompt": [5, 6, 7], "max_tokens": 8, "temperature": 0, "logprobs": 3}
    rows = lambda: sum(r["rows_computed"] for r in server.call("GET", "/get_server_info")[1]["ranks"] if r["stage"] == 0)
    before = server.call("POST", "/v1/completions", question)[1]["choices"]
    rows_before = rows()
    large = {"model": "m", "prompt": [17 + i * 11 % 900 for i in range(300)], "max_tokens": 16000, "ignore_eos": True,
             "stream": True}
    for _ in range(3):
        running = [server.stream(large), server.stream(large)]
        for answer in running:
            first_event(answer)
        waiting = server.stream(large)
        for answer in [waiting, *running]:
            answer.close()
    assert server.call("POST", "/v1/completions", question)[1]["choices"] == before
    assert rows() - rows_before < 16000, "an answer went on without its client"
    print("ok clients that leave give their cache back")


def check_killed_rank(two, victim):
    pid = rank_processes(two.join)[victim]
    answer = two.stream({"model": "m", "prompt": [17 + i * 7 % 900 for i in range(12000)], "max_tokens": 2, "stream": True})
    before = two.call("GET", "/get_server_info")[1]["ranks"][victim]["rows_computed"]
    until(lambda: two.call("GET", "/get_server_info")[1]["ranks"][victim]["rows_computed"] != before,
          "the prefill did not begin", limit=30, every=0)
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    events = [line[6:] for line in answer.read().decode().split("\n") if line.startswith("data: ")]
    took = time.monotonic() - killed
    assert took < FAULT_LIMIT, f"the client heard after {took:.1f} s"
    error = json.loads(events[-2])["error"]
    assert events[-1] == "[DONE]", events
    assert error["code"] == "rank_lost" and error["message"].startswith(f"rank {victim} ("), error
    codes = [command.wait(timeout=20) for command in two.commands]
    assert all(code != 0 for code in codes), codes
    assert f"rank {victim} (" in two.log(0)
    check_none_left(two.join)
    print(f"ok rank {victim} killed in mid-prefill: named after {took:.2f} s: {error['message']}")


def check_asked_to_end(program, model, directory):
    """SIGTERM ends a node that serves nothing, and any node while it waits for the others."""
    for node in (0, 1):
        join = f"127.0.0.1:{free_port()}"
        with open(pathlib.Path(directory) / f"alone{node}.log", "w+") as log:
            command = subprocess.Popen(
                [program, "serve", "--model-path", model, "--port", str(free_port()), "--nnodes", "2", "--node-rank", str(node),
                 "--dist-init-addr", join] + LAYOUT, stdout=log, stderr=log, env=environment(SECRET))

            def ranks_run():
                assert command.poll() is None, log.name
                return len(rank_processes(join)) == 2
            until(ranks_run, log.name, START_LIMIT)
            command.send_signal(signal.SIGTERM)
            code = command.wait(timeout=5)
            log.seek(0)
            said = log.read()
        assert code == (5 if node == 0 else 0), (code, said)
        assert node == 1 or "was asked to end before all ranks had joined" in said, said
        check_none_left(join)
    two = Serving(program, model, 2, directory)
    two.commands[1].send_signal(signal.SIGTERM)
    assert two.commands[1].wait(timeout=5) == 0, two.log(1)
    assert two.commands[0].wait(timeout=20) == 5, two.log(0)
    check_none_left(two.join)
    print("ok SIGTERM ends a node that waits for others, and a node above 0 while it works")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    with tempfile.TemporaryDirectory() as directory:
        models = [str(pathlib.Path(directory) / f"model{seed}") for seed in (0, 1)]
        for seed, model in enumerate(models):
            subprocess.run([program, "checkpoint", "make", model, "--preset", "tiny", "--dtype", "f32", "--seed", str(seed)],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        model = models[0]
        missing = "of the job's 4 ranks have not joined: 2, 3"
        check_refused_node(program, models, directory, "secret", {"secret": "another secret than node 0 has"}, (
            [missing, "a joining rank from 127.0.0.1 did not know the job secret"],
            ["the controller at 127.0.0.1:", "does not know the job secret of rank 2", "SLUICE_JOB_SECRET"]))
        check_refused_node(program, models, directory, "model", {"model": models[1]}, (
            [missing, "a model with fingerprint"], ["refused: rank 2 was started with a model with fingerprint"]))
        check_refused_node(program, models, directory, "layout", {"flags": ["--pp-layer-partition", "1,3"]}, (
            [missing, "was started with layers [1,3], the controller with layers []"],
            ["refused: rank 3 was started with layers [1,3], the controller with layers []"]))
        check_asked_to_end(program, model, directory)
        one = Serving(program, model, 1, directory)
        two = Serving(program, model, 2, directory)
        try:
            check_one_answer(one, two)
            check_secret_is_kept(two)
            check_departed_clients(one)
            check_departed_clients(two)
            assert one.end() == [0], one.log(0)
            check_killed_rank(two, 3)
            two = Serving(program, model, 2, directory)
            check_killed_rank(two, 0)
        finally:
            for command in one.commands + two.commands:
                command.kill()


if __name__ == "__main__":
    main()
