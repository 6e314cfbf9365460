"""The reference's launch lines (deepseek_v32_launch.sh, lws_launch.sh), started on two hosts: they serve, the answer to
a long prompt has the bits of one rank's, stages hold the layers asked for, each lane computes its share of the rows,
and what the flags promise is there: metrics, lines in the log, every argument in /get_server_info.

--full: the line for DeepSeek-V3.2 as it is, 16 ranks, the 61-layer checkpoint and 20,000 tokens; the whole test must
stay within 6 GiB. --full-glm: the line for GLM-5 as it is, the 78-layer checkpoint of GLM-5.2, and a chat of 20,000
tokens that must be answered with a tool call, twice: the second time from the cache. --chat-tokens: of that many
instead. Without either both lines with 2 lanes and a small model. Standard library only."""

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import two_hosts

HERE = pathlib.Path(__file__).parent
SECRET = "a secret of this test alone, 32 bytes and more"
GIB = 2**30
START_LIMIT = 180.0
ANSWER_LIMIT = 2400.0
SAMPLE_EVERY = 0.5
ANSWER_TOKENS = 4
PAGE = 64  # what is cached is whole pages, and the last token is always computed

# The real depth and layer kinds; the widths that set the size of the caches are the smallest there can be, since every
# lane of a stage holds every token.
FULL = {"line": "deepseek_v32_launch.sh", "chunk": 8192, "fraction": 0.8, "make": ["--preset", "v3.2-61", "--dtype", "fp8", "--config-override", "kv_lora_rank=64",
                 "--config-override", "index_head_dim=64"],
        "replace": [], "tokens": 20_000, "lanes": 8, "layers": [[0, 30], [30, 61]], "vocabulary": 2048,
        "parsers": ("deepseekv32", "deepseek-v3"), "memory": 6 * GIB}
# What each flag of the line comes to that changes nothing on CPU ranks, beside what both lines have.
GLM = {"line": "lws_launch.sh", "chunk": 16384, "fraction": 0.86, "tokens": 1500, "parsers": ("glm47", "glm45"),
       "notes": ["--page-size 64: ", "--cuda-graph-bs 1 2 4 8 16 32: CPU ranks have no graphs",
                 "--enable-cache-report: usage always has", "--enable-metrics: ", "8 loader threads read "]}
# Stage 1 begins with layer 39, which shares what layer 38 has selected.
FULL_GLM = {**GLM, "make": ["--preset", "glm-5.2-78", "--dtype", "fp8", "--config-override", "kv_lora_rank=64",
                            "--config-override", "index_head_dim=64"],
            "replace": [], "lanes": 8, "layers": [[0, 39], [39, 78]], "vocabulary": 2048, "top_k": 256,
            "crosses": "layer 39, which shares that of layer 38", "chat_tokens": 20_000, "memory": 8 * GIB}
SMALL = {"make": ["--preset", "tiny", "--dtype", "fp8"], "tokens": 1500, "lanes": 2, "vocabulary": 1024, "memory": 6 * GIB}
SMALL_V32 = {**SMALL, "line": "deepseek_v32_launch.sh", "chunk": 8192, "fraction": 0.8, "layers": [[0, 1], [1, 4]],
             "replace": [("--tp 8", "--tp 2"), ("=30,31", "=1,3")], "parsers": FULL["parsers"]}
SMALL_GLM = {**GLM, "make": ["--preset", "glm-5.2-78", "--layers", "4", "--dtype", "fp8", "--config-override",
                             "index_topk_freq=2", "--config-override", "index_skip_topk_offset=1"],
             "replace": [("--tp 8", "--tp 2"), ("--attn-cp-size 8", "--attn-cp-size 2"), ("=39,39", "=1,3")],
             "lanes": 2, "layers": [[0, 1], [1, 4]], "vocabulary": 2048, "top_k": 256,
             "crosses": "layer 1, which shares that of layer 0", "chat_tokens": 600, "memory": 6 * GIB}
TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
                   "required": ["city"], "additionalProperties": False}}}


def request(method, url, body):
    """(status, text); run as a program of its own when the server is in another network namespace."""
    data = json.dumps(body).encode() if body is not None else None
    asked = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=ANSWER_LIMIT) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def request_on(hosts, method, url, body=None):
    command = [*hosts.prefix(0), sys.executable, __file__, "--request", method, url]
    run = subprocess.run(command, input=json.dumps(body), capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise OSError(run.stderr)
    return json.loads(run.stdout)


class Peak:
    """Samples the memory of the programs, from when it is entered on."""

    def __init__(self, programs):
        self.roots = {program.pid for program in programs}
        self.bytes = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._sample)

    def _sample(self):
        while not self.ended.wait(SAMPLE_EVERY):
            self.bytes = max(self.bytes, two_hosts.resident_bytes(two_hosts.process_tree(self.roots)))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def wait_until_up(hosts, url, logs):
    deadline = time.monotonic() + START_LIMIT
    while True:
        with contextlib.suppress(OSError):
            if request_on(hosts, "GET", f"{url}/health")[0] == 200:
                return
        said = "\n".join(log.read_text()[-3000:] for log in logs)
        assert all(program.poll() is None for program in hosts.programs), said
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def completion(case, model):
    prompt = [16 + (i * 7919 + i // 97) % (case["vocabulary"] - 16) for i in range(case["tokens"])]
    return {"model": model, "prompt": prompt, "max_tokens": ANSWER_TOKENS, "temperature": 0, "logprobs": 5,
            "ignore_eos": True, "return_token_ids": True}


def answer_of(text):
    choice = json.loads(text)["choices"][0]
    choice.pop("prompt_token_ids")
    return choice


def chat(case, model):
    """A chat that must be answered with a call; its text has as many tokens as asked for, a byte being one: the tokenizer
    of a made-up checkpoint merges letters alone."""
    words = "; ".join(f"{i}: {i * 7919 % 41}" for i in range(case["chat_tokens"]))
    return {"model": model, "messages": [{"role": "user", "content": words[:case["chat_tokens"]]}], "tools": [TOOL],
            "tool_choice": "required", "temperature": 0, "max_tokens": 256,
            "chat_template_kwargs": {"enable_thinking": False}}


def call_of(case, status, text):
    """The call of an answer to `chat`, and how many tokens the prompt had."""
    assert status == 200, text
    answer = json.loads(text)
    choice, usage = answer["choices"][0], answer["usage"]
    assert choice["finish_reason"] == "tool_calls", text
    calls = [call["function"] for call in choice["message"]["tool_calls"]]
    assert calls and all(call["name"] == "get_weather" for call in calls), text
    assert all(json.loads(call["arguments"])["city"] in ("Oslo", "Rome") for call in calls), text
    assert usage["prompt_tokens"] >= case["chat_tokens"], usage
    return calls, usage


def one_rank(program, case, model, directory):
    log_path = directory / "one.log"
    port = two_hosts.free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program, "serve", "--model-path", model, "--port", str(port), "--max-total-tokens",
               str(max(case["tokens"], 2 * case.get("chat_tokens", 0)) + 2048)]
    with log_path.open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            deadline = time.monotonic() + START_LIMIT
            while "sluice serves" not in log_path.read_text():
                assert server.poll() is None and time.monotonic() < deadline, log_path.read_text()
                time.sleep(0.1)
            status, text = request("POST", f"{url}/v1/completions", completion(case, model))
            assert status == 200, text
            if "chat_tokens" in case:
                calls, _ = call_of(case, *request("POST", f"{url}/v1/chat/completions", chat(case, model)))
        finally:
            server.terminate()
    return answer_of(text), calls if "chat_tokens" in case else None


def check_info(case, info):
    assert info["nnodes"] == 2 and info["pp_size"] == 2 and info["tp"] == case["lanes"], info
    assert info["mem_fraction_static"] == case["fraction"] and info["chunked_prefill_size"] == case["chunk"], info
    assert (info["tool_call_parser"], info["reasoning_parser"]) == case["parsers"], info
    assert info["trust_remote_code"] is True, info
    ranks = info["ranks"]
    assert [rank["layers"] for rank in ranks] == [[layers] for layers in case["layers"] for _ in range(case["lanes"])]
    rows = case["tokens"] + ANSWER_TOKENS - 1
    for stage in (0, 1):
        for rank in ranks:
            crosses = stage == 0 and rank["stage"] == 0 and "crosses" in case
            if rank["stage"] == stage:
                assert rank["hop_selection_bytes_sent"] == (rank["rows_computed"] * case["top_k"] * 4 if crosses else 0), rank
        shares = [rank["rows_computed"] for rank in ranks if rank["stage"] == stage]
        assert sum(shares) == rows, shares
        for share in shares:
            assert abs(share - case["tokens"] / case["lanes"]) <= ANSWER_TOKENS, shares


def check_metrics(case, text):
    for line in (f'sluice_prompt_tokens_total{{model_name="MODEL"}} {case["tokens"]}',
                 f'sluice_generation_tokens_total{{model_name="MODEL"}} {ANSWER_TOKENS}',
                 'sluice_num_requests_total{model_name="MODEL"} 1',
                 'sluice_time_to_first_token_seconds_count{model_name="MODEL"} 1',
                 f'sluice_inter_token_latency_seconds_count{{model_name="MODEL"}} {ANSWER_TOKENS - 1}',
                 'sluice_request_prompt_tokens_count{model_name="MODEL"} 1'):
        assert line.replace("MODEL", case["model"]) in text, (line, text)


def check_log(case, log):
    steps = -(-case["tokens"] // case["chunk"]) + -(-case.get("chat_tokens", 0) // case["chunk"])
    tool_calls, reasoning = case["parsers"]
    if "chat_tokens" in case:
        assert log.count("Prefill batch, ") >= steps and log.count("Decode batch, ") > ANSWER_TOKENS - 1, log
        assert f"selections cross the hop to {case['crosses']}: {case['top_k'] * 4} bytes a row" in log, log
    else:
        assert log.count("Prefill batch, ") == steps, log
        assert log.count("Decode batch, ") == ANSWER_TOKENS - 1, log
    assert log.count("weights packed") == case["lanes"], log  # of this host's ranks, at level debug
    assert log.count("multi-token-prediction layers are not loaded") == ("tiny" not in case["make"]), log
    for line in (*case.get("notes", ()), f"length: prompt {case['tokens']}, answer {ANSWER_TOKENS} tokens; queue ",
                 f"GiB of this host x {case['fraction']}",
                 f"read with tool-call parser {tool_calls} and reasoning parser {reasoning}", ", decode f",
                 "both are the cpu back end's one kernel"):
        assert line in log, (line, log)


def launch(program, case, hosts, directory):
    """The answer of the launch line, and the largest memory seen."""
    line = (HERE / case["line"]).read_text()
    for old, new in case["replace"]:
        assert line.count(old) == 1, old
        line = line.replace(old, new)
    ports = {"DIST_PORT": str(two_hosts.free_port()), "PORT": str(two_hosts.free_port())}
    logs = [directory / f"host{host}.log" for host in (0, 1)]
    url = f"http://{hosts.addresses[0]}:{ports['PORT']}"
    with contextlib.ExitStack() as files:
        for host, path in enumerate(logs):
            environment = {"SLUICE": program, "MODEL_PATH": case["model"], "SLUICE_JOB_SECRET": SECRET,
                           "NODE_RANK": str(host), "LWS_WORKER_INDEX": str(host), "LWS_GROUP_SIZE": "2",
                           "HEAD_ADDR": hosts.addresses[0], "LWS_LEADER_ADDRESS": hosts.addresses[0],
                           "NODE_ADDR": hosts.addresses[host], **ports}
            hosts.start(host, ["bash", "-c", line], environment, files.enter_context(path.open("w")))
        with Peak(hosts.programs) as peak:
            wait_until_up(hosts, url, logs)
            began = time.monotonic()
            status, text = request_on(hosts, "POST", f"{url}/v1/completions", completion(case, case["model"]))
            took = time.monotonic() - began
            assert status == 200, (text, logs[0].read_text()[-3000:])
            check_info(case, json.loads(request_on(hosts, "GET", f"{url}/get_server_info")[1]))
            check_metrics(case, request_on(hosts, "GET", f"{url}/metrics")[1])
            calls = None
            if "chat_tokens" in case:
                began = time.monotonic()
                calls, usage = call_of(case, *request_on(hosts, "POST", f"{url}/v1/chat/completions", chat(case, case["model"])))
                took = time.monotonic() - began
                assert usage["prompt_tokens_details"]["cached_tokens"] == 0, usage
                again, second = call_of(case, *request_on(hosts, "POST", f"{url}/v1/chat/completions", chat(case, case["model"])))
                assert again == calls, (again, calls)
                cached = second["prompt_tokens_details"]["cached_tokens"]
                assert cached == (second["prompt_tokens"] - 1) // PAGE * PAGE, second
                metrics = request_on(hosts, "GET", f"{url}/metrics")[1]
                for name, value in (("prompt", case["tokens"] + 2 * usage["prompt_tokens"]), ("cached", cached)):
                    assert f'sluice_{name}_tokens_total{{model_name="{case["model"]}"}} {value}\n' in metrics, metrics
        codes = hosts.stop()
    assert codes == [0, 0], (codes, [log.read_text()[-2000:] for log in logs])
    check_log(case, logs[0].read_text())
    assert "node 1 of 2 computes and does not serve" in logs[1].read_text(), logs[1].read_text()
    print(f"ok {case['line']}: {case.get('chat_tokens', case['tokens'])} tokens in {took:.1f} s on 2 hosts x {case['lanes']} ranks: {hosts.how}")
    return (answer_of(text), calls), peak.bytes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice")
    parser.add_argument("--full", action="store_true", help="the line for DeepSeek-V3.2 as it is; minutes")
    parser.add_argument("--full-glm", action="store_true", help="the line for GLM-5 as it is; minutes")
    parser.add_argument("--chat-tokens", type=int, help="with --full-glm, in place of 20,000")
    parser.add_argument("--request", nargs=2, metavar=("METHOD", "URL"), help="for the test's own use")
    options = parser.parse_args()
    if options.request:
        print(json.dumps(request(*options.request, json.load(sys.stdin))))
        return
    glm = {**FULL_GLM, "chat_tokens": options.chat_tokens or FULL_GLM["chat_tokens"]}
    full = [FULL] * options.full + [glm] * options.full_glm
    for case in full or [SMALL_V32, SMALL_GLM]:
        run(options.sluice, dict(case))


def run(program, case):
    with tempfile.TemporaryDirectory() as name, two_hosts.TwoHosts() as hosts:
        directory = pathlib.Path(name)
        case["model"] = str(directory / "model")
        subprocess.run([program, "checkpoint", "make", case["model"], *case["make"]], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answer, peak = launch(program, case, hosts, directory)
        print(f"ok at most {peak / 2**30:.2f} GiB resident (sum of proportional set sizes, every {SAMPLE_EVERY} s)")
        assert peak <= case["memory"], peak
        assert answer == one_rank(program, case, case["model"], directory), "one rank answers differently"
        print("ok one rank gives the same tokens and log-probabilities")


if __name__ == "__main__":
    main()
