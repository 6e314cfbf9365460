"""The habits of the command line: --help by group, word and all, the nearest flag for a typing error, a sentence for each
line that does not parse, a check that finds what serving refuses, a demo that deletes nothing of others and looks for its
port first, --print-config with origins from --config, the environment and the model and without keys, completion in the
shells that are installed, and a log of JSON lines unless it goes to a terminal.
Usage: cli_habits_test.py --sluice PROGRAM"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

CONTEXT = 163840  # of the tiny preset


class Program:
    def __init__(self, program, directory):
        self.program = program
        self.directory = pathlib.Path(directory)
        self.model = str(self.directory / "model")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        subprocess.run([program, "checkpoint", "make", self.model, "--preset", "tiny"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, *words, code=0, more=None):
        run = subprocess.run([self.program, *words], capture_output=True, text=True, timeout=60,
                             env={**self.environment, **(more or {})})
        assert run.returncode == code, (words, run)
        return run.stdout if code == 0 else run.stderr

    def refused(self, *words, more=None):
        """The one line with which the words are refused."""
        lines = self.run(*words, code=2, more=more).strip().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    def file(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return str(path)


def flags_of(page):
    return re.findall(r"^  (--[a-z0-9-]+)", page, re.MULTILINE)


def check_help(program):
    common = program.run("serve", "--help")
    assert len(flags_of(common)) == 20, flags_of(common)
    titles = re.findall(r"^(\w[\w ]+):$", common, re.MULTILINE)
    assert len(titles) == 5, titles
    every = program.run("serve", "--help", "all")
    assert len(flags_of(every)) > 50 and set(flags_of(common)) < set(flags_of(every))
    layout = program.run("serve", "--help", "layout")
    assert "--pp-size" in flags_of(layout) and "--host" not in flags_of(layout), layout
    chunk = program.run("serve", "--help=chunk")
    assert "--chunked-prefill-size" in flags_of(chunk) and "--host" not in flags_of(chunk), chunk
    assert program.run("serve", program.model, "--port", "1", "-h") == common
    assert "Layout" in program.refused("serve", "--help=zzzz")
    for command, defaults in (("bench prefill", ("--input-len INT:COUNT=[4096]", "--tensor-parallel-size INT=1")),
                              ("bench decode", ("--batch-size INT=[1]", "--output-len INT=32")),
                              ("bench ops", ("--rows INT=[1,16,256]",)), ("demo", ("--port INT=30000", "--directory TEXT=build/demo"))):
        page = program.run(*command.split(), "--help")
        assert all(text in page for text in defaults), (command, page)


def check_typing_errors(program):
    assert program.refused("serve", program.model, "--prot", "1") == "sluice: there is no flag --prot: did you mean --port?"
    assert "did you mean --chunked-prefill-size?" in program.refused("serve", program.model, "--chunked-prefil-size=8")
    assert "did you mean serve?" in program.refused("sevre", program.model)
    assert "did you mean --preset?" in program.refused("checkpoint", "make", "x", "--prest", "tiny")
    assert "--zzzzzzzzz" in program.refused("serve", program.model, "--zzzzzzzzz")
    assert "12x" in program.refused("serve", program.model, "--max-total-tokens", "12x")
    assert program.refused("trace", "mrge") == "sluice: there is no command trace mrge: did you mean merge?"


def check_lines_that_do_not_parse(program):
    """Each is one sentence with the word, what is wrong with it and what works."""
    no_value = "has no value: give it one, as --{0}=VALUE where the value itself begins with --"
    for name, words in (("served-model-name", ("--served-model-name", "--load-mtp")), ("port", ("--port=",)),
                        ("served-model-name", ("--served-model-name=", "--load-mtp")), ("port", ("--port",))):
        said = program.refused("serve", program.model, *words, more={"SLUICE_LOG_FORMAT": "text"})
        assert said == f"sluice: --{name} {no_value.format(name)}", said
    assert "--output has no value" in program.refused("eval", "needle", "--output", "--insecure")
    file = program.file("empty.toml", 'served-model-name = ""\nload-mtp = true\n')
    assert "empty value in the config file" in program.refused("serve", program.model, "--config", file)
    for said, words in (
            ("--port abc is not a whole number: use one such as 8", ("serve", program.model, "--port", "abc")),
            ("--watchdog-timeout x is not a number: use one such as 0.5", ("serve", program.model, "--watchdog-timeout", "x")),
            ("--rows 1,x is not a list of whole numbers: use some such as 1,2", ("bench", "ops", "--rows", "1,x")),
            ("--port takes one value and is given 2: keep one", ("serve", program.model, "--port", "1", "--port", "2")),
            ("b a belong to no flag: `sluice serve --help` says what the command takes", ("serve", program.model, "b", "a")),
            ("false belongs to no flag: `sluice serve --help` says what the command takes",
             ("serve", program.model, "--enable-metrics", "false")),
            ("--url and --port do not go together: leave one of them out", ("eval", "needle", "--url", "http://x", "--port", "1")),
            ("`sluice trace` needs a command: merge, table, svg", ("trace",)),
            ("inputs is required: `sluice trace merge inputs`", ("trace", "merge")),
            ("--lengths: 0 is out of range: use 1 or more", ("eval", "needle", "--lengths", "0")),
            ("--depths: 300 is out of range: use 1 to 256", ("eval", "needle", "--depths", "300")),
            ("--layers: 0 is out of range: use 1 or more", ("checkpoint", "make", "x", "--layers", "0")),
            ("--shard-bytes: 0 is out of range: use 1 or more", ("checkpoint", "make", "x", "--shard-bytes", "0")),
            ("--seed: -1 is not a whole number from 0 to 2^64 - 1", ("checkpoint", "make", "x", "--seed", "-1")),
            ("--seed: -1 is not a whole number from 0 to 2^64 - 1", ("bench", "prefill", "--model-path", program.model, "--seed", "-1")),
            ("--seed: 1.5 is not a whole number from 0 to 2^64 - 1", ("bench", "serve", "--seed", "1.5")),
            ("--seed: -1 is not a whole number from 0 to 2^64 - 1", ("eval", "needle", "--seed", "-1")),
            ("--leave-out 11 is none of the 11 depths: use 0 to 10", ("eval", "needle", "--leave-out", "11")),
            ("--leave-out -1 is none of the 2 depths: use 0 to 1", ("eval", "needle", "--depths", "2", "--leave-out", "-1")),
            ("--perturb-rank: 4 is out of range: use 0 to 3", ("demo", "--perturb-rank", "4"))):
        assert program.refused(*words) == f"sluice: {said}", (program.refused(*words), said)
    assert "does not answer" in program.run("eval", "needle", "--lengths", "4k", "--port", "1", code=6), "4k tokens"
    program.run("checkpoint", "make", str(program.directory / "shards"), "--shard-bytes", "10M", "--seed", str(2**64 - 1))


def check_the_demo_deletes_nothing(program):
    mine = program.directory / "models" / "checkpoint"
    mine.mkdir(parents=True)
    (mine / "model.safetensors").write_text("mine")
    said = program.refused("demo", "--once", "--directory", str(mine.parent))
    assert f"{mine} is there and is no checkpoint" in said and "--directory" in said, said
    assert (mine / "model.safetensors").read_text() == "mine"


def check_the_demo_looks_for_its_port_first(program):
    place = program.directory / "demo"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = program.run("demo", "--port", port, "--directory", str(place), code=6)
    assert f"cannot listen on 127.0.0.1 port {port}" in said and not place.exists(), said


def check_whole_prompts_are_measured(program):
    """--chunked-prefill-size -1 is one chunk of the prompt's length, and answers are measured behind it."""
    words = ("--model-path", program.model, "--chunked-prefill-size", "-1", "--input-len", "300", "--repeats", "1")
    assert "300 tokens in chunks of 300: TTFT" in program.run("bench", "prefill", *words)
    assert "depth 300, 1 sequence: " in program.run("bench", "decode", *words, "--output-len", "3")


def check_a_checkpoint_that_would_not_be_served(program):
    """`sluice check` says what `sluice serve` says."""
    model = program.directory / "unfit"
    shutil.copytree(program.model, model)
    for config in ('{"temperature": "warm"}', '{"top_p": 0}', "[]"):
        (model / "generation_config.json").write_text(config)
        served = program.run("serve", str(model), "--port", "0", code=3).strip().splitlines()[-1]
        checked = subprocess.run([program.program, "check", str(model)], capture_output=True, text=True, timeout=60)
        assert checked.returncode == 3 and served == "sluice: " + checked.stdout.strip(), (served, checked)
    (model / "generation_config.json").unlink()
    (model / "tokenizer.json").unlink()
    served = program.run("serve", str(model), "--port", "0", code=3)
    assert "tokenizer.json: is not there" in served and "listening" not in served and "loader threads" not in served, served
    checked = subprocess.run([program.program, "check", str(model)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 3 and checked.stdout.strip() in served, (served, checked)


def check_print_config(program):
    file = program.file("serve.toml", 'port = 3\nmax-total-tokens = "1M"\nnumerics = "fp8"\n')
    words = ("serve", program.model, "--config", file, "--numerics", "exact", "--print-config")
    text = program.run(*words, more={"SLUICE_PORT": "4", "SLUICE_ENABLE_CACHE_REPORT": "true"})
    for line in (f'model-path = "{program.model}"  # flag', "port = 4  # environment variable SLUICE_PORT",
                 f"max-total-tokens = 1000000  # config file {file}, line 2", 'numerics = "exact"  # flag',
                 f"context-length = {CONTEXT}  # model", 'host = "127.0.0.1"  # built-in',
                 "enable-cache-report = true  # environment variable SLUICE_ENABLE_CACHE_REPORT"):
        assert line in text.splitlines(), (line, text)
    again = program.run("serve", "--config", program.file("again.toml", text), "--print-config")
    values = [line.split("  # ")[0] for line in text.splitlines()]
    assert [line.split("  # ")[0] for line in again.splitlines()] == values, again
    keys = {"SLUICE_API_KEY": "key-of-a-user", "SLUICE_ADMIN_API_KEY": "key-of-an-admin"}
    text = program.run("serve", program.model, "--print-config", more=keys)
    assert "key-of" not in text and 'api-key = "***"  # environment variable SLUICE_API_KEY' in text.splitlines(), text
    masked = program.file("masked.toml", text)
    said = program.refused("serve", "--port", "0", "--config", masked)
    assert "--api-key is ***, which --print-config writes" in said and f"--api-key is from the config file {masked}, line" in said, said
    said = program.refused("serve", "--port", "0", "--config", masked, more={"SLUICE_API_KEY": "key-of-a-user"})
    assert "--admin-api-key is ***" in said, said
    text = program.run("serve", program.model, "--print-config", "--model-loader-extra-config", "{}", "--mem-fraction-static", "0.5")
    for line in ("# loader-threads is not set", "# max-total-tokens is not set", 'model-loader-extra-config = "{}"  # flag'):
        assert line in text.splitlines(), (line, text)
    as_json = program.file("serve.json", json.dumps({"model": program.model, "port": 5, "cuda-graph-bs": [1, 2]}, indent=1))
    text = program.run("serve", "--print-config", more={"SLUICE_CONFIG": as_json})
    assert f"port = 5  # config file {as_json}, line 3" in text and "cuda-graph-bs = [1, 2]" in text, text


def check_wrong_values(program):
    file = program.file("wrong.toml", "port = 3\n\nporrt = 4\n")
    assert program.refused("serve", program.model, "--config", file) == \
        f"sluice: --config {file}, line 3: porrt is no flag that a file can set: did you mean port?"
    said = program.refused("serve", program.model, more={"SLUICE_PORT": "70000"})
    assert "--port 70000" in said and "(--port is from the environment variable SLUICE_PORT)" in said, said
    said = program.refused("serve", program.model, "--config", program.file("high.toml", "\nport = 70000\n"))
    assert "high.toml, line 2)" in said, said
    said = program.run("serve", program.model, "--port", "70000", code=2, more={"SLUICE_PROT": "1"})
    assert "SLUICE_PROT is no flag's and has no effect: did you mean SLUICE_PORT?" in said, said


def check_completion(program):
    script = program.run("completion", "bash")
    ask = f'{script}\nCOMP_WORDS=(sluice serve --max-r); COMP_CWORD=2; _sluice; echo "${{COMPREPLY[@]}}"\n' \
          'COMP_WORDS=(sluice ch); COMP_CWORD=1; _sluice; echo "${COMPREPLY[@]}"\n' \
          'COMP_WORDS=(sluice checkpoint make --pre); COMP_CWORD=3; _sluice; echo "${COMPREPLY[@]}"\n'
    run = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["--max-running-requests", "checkpoint check", "--preset"], run
    done = ["bash"]
    if shutil.which("zsh"):
        ask = f'{program.run("completion", "zsh")}\nCOMP_WORDS=(sluice serve --max-r); COMP_CWORD=2\n(( $+functions[_sluice] )) && print defined\n'
        run = subprocess.run(["zsh", "-f", "-c", ask], capture_output=True, text=True, env={**program.environment, "HOME": str(program.directory)})
        assert run.stdout.strip() == "defined", run
        done.append("zsh")
    if shutil.which("fish"):
        file = program.file("sluice.fish", program.run("completion", "fish"))
        run = subprocess.run(["fish", "--no-config", "-c", f"source {file}; complete -C 'sluice serve --max-r'; complete -C 'sluice ch'"],
                             capture_output=True, text=True, env={**program.environment, "HOME": str(program.directory)})
        words = [line.split("\t")[0] for line in run.stdout.splitlines()]
        assert "--max-running-requests" in words and "checkpoint" in words and "check" in words, run
        done.append("fish")
    assert "bash, zsh or fish" in program.refused("completion", "tcsh")
    print(f"ok completion in {', '.join(done)}")


def serve(program, *words, stderr=subprocess.DEVNULL, ask=()):
    """The texts that a server answers to these bodies; what it logs goes to `stderr`, a file or a terminal."""
    texts = []
    command = [program.program, "serve", program.model, "--port", "0", "--context-length", "2Ki", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=program.environment) as server:
        try:
            found = re.search(r"http://([\d.]+):(\d+)", server.stdout.readline())
            for body in ask:
                connection = http.client.HTTPConnection(found[1], int(found[2]), timeout=60)
                connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                assert answer.status == 200, body
                texts.append(json.loads(answer.read())["choices"][0]["text"])
                connection.close()
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0
    return texts


def check_defaults_of_the_model(program):
    """A flag goes before generation_config.json, and a request before both: greedy answers ignore the seed."""
    config = pathlib.Path(program.model) / "generation_config.json"
    ask = [{"model": program.model, "prompt": "abc", "max_tokens": 24, "seed": seed, "ignore_eos": True, **more}
           for more in ({}, {"temperature": 0.0}, {"temperature": 1.5}) for seed in (1, 2)]
    config.write_text('{"temperature": 0.0, "top_p": 0.9}')
    try:
        a, b, greedy, same, warm, other = serve(program, ask=ask)
        assert a == b == greedy == same and warm != other, (a, b, greedy, warm, other)
        a, b, greedy, same, *_ = serve(program, "--default-temperature", "1.5", ask=ask)
        assert a != b and greedy == same, (a, b, greedy)
        text = program.run("serve", program.model, "--default-temperature", "1", "--print-config")
        assert "default-temperature = 1  # flag" in text and "default-top-p = 0.9  # model" in text, text
        config.write_text('{"temperature": 7}')
        said = program.run("serve", program.model, "--port", "0", code=3)
        assert "generation_config.json: temperature 7 is not from 0 to 2" in said, said
    finally:
        config.unlink()
    a, b, *_ = serve(program, ask=ask)
    assert a != b, a


def check_log(program):
    forged = {"model": program.model, "prompt": 'a\n{"level":"error","message":"forged"}\x1b[2J', "max_tokens": 2, "temperature": 0}
    with open(program.directory / "json.log", "w+", encoding="utf-8") as log:
        serve(program, "--log-requests", "--log-requests-level", "2", stderr=log, ask=[forged])
        log.seek(0)
        lines = [json.loads(line) for line in log]  # every line is one, whatever a client wrote
    assert all(set(line) == {"time", "level", "logger", "pid", "message"} for line in lines), lines
    received = [line["message"] for line in lines if ", prompt " in line["message"]]
    assert len(received) == 1 and json.loads(received[0].split(", prompt ")[1]) == forged["prompt"], received
    assert not [line for line in lines if line["level"] == "error"], lines
    controller, terminal = pty.openpty()
    said = []

    def read():
        with contextlib.suppress(OSError):  # the terminal is closed
            while piece := os.read(controller, 4096):
                said.append(piece.decode())

    reader = threading.Thread(target=read)
    reader.start()
    serve(program, stderr=terminal)
    os.close(terminal)
    reader.join()
    os.close(controller)
    said = "".join(said)
    assert "] " in said and '"level"' not in said, said


def check_the_line_of_a_request(program):
    """A connection that is kept: the time between two of its requests is in neither's line."""
    pause = 2.0  # seconds
    with open(program.directory / "log", "w+") as log:
        command = [program.program, "serve", program.model, "--port", "0", "--context-length", "2Ki"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=program.environment) as server:
            try:
                found = re.search(r"http://([\d.]+):(\d+)", server.stdout.readline())
                connection = http.client.HTTPConnection(found[1], int(found[2]), timeout=60)
                for path in ("/live", "/version"):
                    connection.request("GET", path)
                    assert connection.getresponse().read()
                    time.sleep(pause)
            finally:
                server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=60) == 0
        log.seek(0)
        lines = re.findall(r"GET (/live|/version) 200 ([\d.]+) s", log.read())
    assert [path for path, _ in lines] == ["/live", "/version"] and all(float(seconds) < pause for _, seconds in lines), lines


COMMANDS = ("checkpoint make", "check", "doctor", "demo", "bench serve", "bench prefill", "bench decode", "bench ops", "bench comm",
            "bench report", "eval gsm8k", "eval mmlu", "eval needle", "eval logprobs", "trace merge", "trace table", "trace svg")


def check_every_flag_is_documented(program):
    """Every name of every flag stands in docs/ (those of `serve`, row by row: launch_flags_test.py)."""
    docs = "".join(page.read_text() for page in (pathlib.Path(__file__).parents[2] / "docs").glob("*.md"))
    known = set(re.findall(r"--[a-z][a-z0-9-]*", docs))
    top = re.findall(r"^  (\w+) ", program.run("--help").split("Subcommands:")[1], re.MULTILINE)
    assert {command.split()[0] for command in COMMANDS} == set(top) - {"serve", "completion"}, top
    for command in COMMANDS:
        page = program.run(*command.split(), "--help")
        names = {name for entry in re.findall(r"^  (-\S+)", page, re.MULTILINE) for name in re.findall(r"--[a-z][a-z0-9-]*", entry)}
        assert "--help" in names and names - {"--help"} <= known, (command, sorted(names - known))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    with tempfile.TemporaryDirectory() as directory:
        program = Program(parser.parse_args().sluice, directory)
        for check in (check_help, check_typing_errors, check_lines_that_do_not_parse, check_the_demo_deletes_nothing,
                      check_the_demo_looks_for_its_port_first, check_whole_prompts_are_measured,
                      check_a_checkpoint_that_would_not_be_served, check_print_config, check_wrong_values, check_completion,
                      check_defaults_of_the_model, check_log, check_the_line_of_a_request, check_every_flag_is_documented):
            check(program)
            print(f"ok {check.__name__}")


if __name__ == "__main__":
    main()
