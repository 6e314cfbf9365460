"""Every refused combination of flags ends with exit code 2 (3 for the model's files, 6 for the network) and one sentence that names
the flag and what would work, before anything is started; and the layouts in the accepted rows serve.
Usage: bad_flags_test.py --sluice PROGRAM"""

import argparse
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile

CP = "--enable-nsa-prefill-context-parallel"

SECRET = "a secret for the tests"
TWO = ["--nnodes", "2", "--tp", "2", CP, "--dist-init-addr", "127.0.0.1:1"]

# flags after `serve --model-path MODEL`, exit code, what the sentence must contain; all with SECRET in the environment
REFUSED = [
    (["--tp", "4", "--attn-cp-size", "3"], 2, ["--tp 4", "--attn-cp-size 3", "use --attn-cp-size 2, or --tp 6"]),
    (["--tp", "8", "--attn-cp-size", "4", "--dp-size", "3"], 2, ["--tp 8", "--dp-size 3 x --attn-cp-size 4", "use --dp-size 1"]),
    (["--tp", "8", "--attn-cp-size", "4", "--dp-size", "2"], 2, ["--dp-size 2", "use --dp-size 1"]),
    (["--dp-size", "0"], 2, ["--dp-size 0", "use --dp-size 1"]),
    (["--tp", "16"], 2, ["--tp 16 with --attn-cp-size 1", "8 attention heads over 16 ranks", "use --attn-cp-size 2"]),
    (["--tp", "4", CP, "--ep-size", "2"], 2, ["--ep-size 2", "--tp 4", "use --ep-size 4"]),
    (["--tp", "4", CP, "--moe-dense-tp-size", "2"], 2, ["--moe-dense-tp-size 2", "use 1", "4 to cut"]),
    (["--tp", "8", CP, "--moe-dense-tp-size", "8"], 2, ["--moe-dense-tp-size 8", "512 channels", "use --moe-dense-tp-size 1"]),
    (["--tp", "2", CP, "--expert-owners", "3"], 2, ["--expert-owners 3", "1 to 2"]),
    (["--tp", "2", CP, "--expert-owners", "0"], 2, ["--expert-owners 0", "1 to 2"]),
    (["--tp", "2", CP, "--attn-cp-size", "0"], 2, ["--attn-cp-size is 0", "use --attn-cp-size 1"]),
    (["--pp-size", "2", "--pp-virtual-stages", "3"], 2, ["--pp-virtual-stages 3", "6 layer ranges", "has 4", "use --pp-virtual-stages 2"]),
    (["--pp-virtual-stages", "0"], 2, ["--pp-virtual-stages is 0", "1 to"]),
    (["--pp-size", "2", "--pp-virtual-stages", "2", "--pp-layer-partition", "2,2"], 2, ["2 entries for 4 virtual stages", "1,1,1,1"]),
    (["--tp", "0"], 2, ["--tp is 0", "1 to"]),
    (["--pp-size", "5"], 2, ["--pp-size 5", "--pp-size 4 or less"]),
    (["--pp-size", "0"], 2, ["--pp-size is 0", "1 to"]),
    (["--pp-size", "2", "--pp-layer-partition", "1,2"], 2, ["--pp-layer-partition 1,2", "3 layers", "2,2"]),
    (["--pp-size", "2", "--pp-layer-partition", "4"], 2, ["--pp-layer-partition 4", "2 stages", "2,2"]),
    (["--pp-size", "2", "--pp-layer-partition", "a,b"], 2, ["a,b", "30,31"]),
    (["--nsa-prefill-cp-mode", "ring"], 2, ["ring", "round-robin-split", "in-seq-split"]),
    (["--numerics", "int4"], 2, ["int4", "auto, exact or fp8"]),
    (["--ops", "tpu"], 2, ["tpu", "cpu, cuda or reference"]),
    (["--nnodes", "2"], 2, ["--nnodes 2", "1 ranks"]),
    (["--nnodes", "2", "--tp", "2", CP], 2, ["--dist-init-addr"]),
    ([*TWO, "--node-rank", "2"], 2, ["--node-rank 2", "0 to 1"]),
    ([*TWO, "--ranks", "threads"], 2, ["--ranks threads", "processes"]),
    (["--nnodes", "2", "--tp", "2", CP, "--dist-init-addr", "node0:2345"], 2, ["--data-plane-addr 127.0.0.1", "own address"]),
    (["--nnodes", "2", "--tp", "2", CP, "--dist-init-addr", "node0"], 2, ["node0", "port"]),
    (["--nnodes", "2", "--tp", "2", CP, "--dist-init-addr", "0.0.0.0:2345"], 2, ["--dist-init-addr 0.0.0.0:2345", "one address of node 0"]),
    ([*TWO, "--data-plane-addr", "::"], 2, ["--data-plane-addr ::", "one address or interface"]),
    (["--dist-timeout", "0"], 2, ["--dist-timeout 0", "1 to 86400"]),
    (["--job-secret-file", "/nowhere/secret"], 2, ["--job-secret-file /nowhere/secret", "No such file"]),
    (["--tp", "2", CP, "--ranks", "fibres"], 2, ["fibres", "threads or processes"]),
    (["--chunked-prefill-size", "0"], 2, ["--chunked-prefill-size 0", "1 or more"]),
    (["--chunked-prefill-size", "-2"], 2, ["--chunked-prefill-size -2", "-1 for whole prompts"]),
    (["--chunked-prefill-size", "-1", "--max-prefill-tokens", "4096"], 2, ["--max-prefill-tokens 4096", "--max-prefill-tokens 163840"]),
    (["--max-prefill-tokens", "0"], 2, ["--max-prefill-tokens 0", "1 or more"]),
    (["--max-running-requests", "4", "--pp-max-micro-batch-size", "5"], 2, ["--pp-max-micro-batch-size 5", "1 to 4"]),
    (["--pp-async-batch-depth", "-1"], 2, ["--pp-async-batch-depth -1", "0 to 64"]),
    (["--mem-fraction-static", "0"], 2, ["--mem-fraction-static 0", "above 0, at most 1"]),
    (["--mem-fraction-static", "0.0001"], 2, ["--mem-fraction-static 0.0001", "rank 0", "or more"]),
    (["--mem-fraction-static", "0.5", "--max-total-tokens", "9"], 2, ["--mem-fraction-static", "--max-total-tokens", "one of them"]),
    (["--model-loader-extra-config", '{"threads": 2}'], 2, ["threads", "enable_multithread_load", "num_threads"]),
    (["--model-loader-extra-config", "{}", "--loader-threads", "2"], 2, ["--loader-threads", "one of them"]),
    (["--model-loader-extra-config", "{}", "--loader-threads", "4"], 2, ["--loader-threads", "one of them"]),
    (["--served-model-name", "a:b"], 2, ["--served-model-name a:b", "without"]),
    (["--load-mtp"], 2, ["num_nextn_predict_layers", "leave --load-mtp out"]),
    (["--speculative-algorithm", "NEXTN"], 2, ["--speculative-algorithm NEXTN is not built", "use --load-mtp alone"]),
    (["--speculative-config", '{"method": "mtp"}'], 2, ["--speculative-config", "use --load-mtp alone"]),
    (["--page-size", "1"], 2, ["--page-size 1", "use 64"]),
    (["--attention-backend", "fa3"], 2, ["--attention-backend fa3", "use nsa"]),
    (["--nsa-decode-backend", "fast"], 2, ["--nsa-decode-backend fast", "fa3"]),
    (["--kv-cache-dtype", "int8"], 2, ["--kv-cache-dtype int8", "auto, bf16, fp8_e4m3 or f32"]),
    (["--kv-cache-dtype", "bf16"], 2, ["--kv-cache-dtype bf16", "--kv-cache-dtype f32 or auto", "--numerics fp8"]),
    (["--kv-cache-dtype", "fp8_e4m3"], 2, ["--kv-cache-dtype fp8_e4m3", "--numerics fp8"]),
    (["--tool-call-parser", "qwen25"], 2, ["--tool-call-parser qwen25", "use auto, deepseekv32, glm47 or none"]),
    (["--reasoning-parser", "qwen3"], 2, ["--reasoning-parser qwen3", "use auto, deepseek-v3, glm45 or none"]),
    (["--chat-template", "chatml"], 2, ["--chat-template chatml", "use auto, deepseek-v3.2, glm-5, glm-5.1 or glm-5.2"]),
    (["--cuda-graph-bs", "1", "16", "--cuda-graph-max-bs", "8"], 2, ["--cuda-graph-bs 16", "--cuda-graph-max-bs 8"]),
    (["--cuda-graph-max-bs", "0"], 2, ["--cuda-graph-max-bs 0", "1 to"]),
    (["--num-reserved-decode-tokens", "0"], 2, ["--num-reserved-decode-tokens 0", "1 to"]),
    (["--collect-tokens-histogram", "--disable-metrics"], 2, ["--collect-tokens-histogram", "--disable-metrics"]),
    (["--metrics-compat", "sglang", "--disable-metrics"], 2, ["--metrics-compat", "--disable-metrics"]),
    (["--metrics-compat", "tgi"], 2, ["--metrics-compat tgi", "use sglang or vllm"]),
    (["--log-format", "xml"], 2, ["--log-format xml", "use auto, text or json"]),
    (["--log-requests-level", "1"], 2, ["--log-requests-level 1", "--log-requests"]),
    (["--moe-dp-size", "2"], 2, ["--moe-dp-size 2", "use 1"]),
    (["--enable-dynamic-chunking"], 2, ["--enable-dynamic-chunking", "--chunked-prefill-size"]),
    (["--decode-log-interval", "0"], 2, ["--decode-log-interval 0", "1 to"]),
    (["--log-level", "loud"], 2, ["--log-level loud", "debug"]),
    (["--context-length", "0"], 2, ["--context-length 0", "1 or more"]),
    (["--max-total-tokens", "0"], 2, ["--max-total-tokens 0", "1 to 137438953408"]),
    (["--context-length", "9999999"], 2, ["--context-length 9999999", "163840"]),
    (["--watchdog-timeout", "0"], 2, ["--watchdog-timeout 0"]),
    (["--port", "70000"], 2, ["--port 70000"]),
    (["--no-such-flag"], 2, ["--no-such-flag"]),
    (["--max-total-tokens", "64q"], 2, ["--max-total-tokens", "64q", "128Ki"]),
]

# SLUICE_JOB_SECRET (None: not set), what is in --job-secret-file and its mode (None: not given), what the sentence of
# two nodes must contain; never the secrets
SECRETS_REFUSED = [
    (None, None, ["--nnodes 2", "openssl rand -hex 32", "every node the same", "SLUICE_JOB_SECRET", "--job-secret-file"]),
    ("", None, ["SLUICE_JOB_SECRET is empty", "openssl rand -hex 32"]),
    ("fifteen letters", None, ["SLUICE_JOB_SECRET has 15 characters where 16", "openssl rand -hex 32"]),
    (None, ("fifteen letters\n", 0o600), ["--job-secret-file", "has 15 characters where 16"]),
    (None, (SECRET, 0o644), ["--job-secret-file", "mode 644", "chmod 600"]),
    (SECRET, ("fifteen letters and more\n", 0o600), ["SLUICE_JOB_SECRET and --job-secret-file", "different secrets"]),
]

# The same from the environment, as the reference system's launch lines give it.
REFUSED_PARTITIONS = [
    ("1,2", ["--pp-layer-partition 1,2", "3 layers", "2,2"]),
    ("4", ["1 entries for 2 stages", "2,2"]),
    ("2,x", ["2,x", "30,31"]),
]

# flags after `serve --model-path MODEL --port 0`, the layers of each stage, ranks
ACCEPTED = [
    (["--pp-size", "2", "--tp", "2", CP], [[[0, 2]], [[2, 4]]], 4),
    (["--pp-size", "2", "--tp", "4", "--attn-cp-size", "2", "--dp-size", "1", "--ep-size", "4"], [[[0, 2]], [[2, 4]]], 8),
    (["--tp", "2", "--moe-dense-tp-size", "2", "--ep-size", "1"], [[[0, 4]]], 2),
    (["--pp-size", "2", "--pp-virtual-stages", "2"], [[[0, 1], [2, 3]], [[1, 2], [3, 4]]], 2),
    (["--pp-size", "2", "--pp-layer-partition", "3,1", "--expert-owners", "1"], [[[0, 3]], [[3, 4]]], 2),
]


def accepted(program, model, flags, layers, ranks):
    command = [program, "serve", "--model-path", model, "--port", "0", "--context-length", "1024", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline()
            address = re.search(r"http://([\d.]+):(\d+)", line)
            assert address, (flags, line, server.stderr.read())
            connection = http.client.HTTPConnection(address[1], int(address[2]), timeout=60)
            connection.request("GET", "/get_server_info")
            found = json.loads(connection.getresponse().read())["ranks"]
            connection.close()
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0, flags
    assert len(found) == ranks, (flags, found)
    assert [[r["layers"] for r in found if r["stage"] == s][0] for s in range(len(layers))] == layers, (flags, found)


def environment(secret):
    kept = {name: value for name, value in os.environ.items() if name != "SLUICE_JOB_SECRET"}
    return kept if secret is None else {**kept, "SLUICE_JOB_SECRET": secret}


def refused(program, model, flags, code, phrases, secret=SECRET, more=None):
    run = subprocess.run([program, "serve", "--model-path", model, *flags], capture_output=True, text=True, timeout=60,
                         env={**environment(secret), **(more or {})})
    said = run.stderr + run.stdout
    assert run.returncode == code, (flags, run.returncode, said)
    assert not [phrase for phrase in phrases if phrase not in said], (flags, phrases, said)
    # The network is tried last, after what the flags come to is in the log.
    assert len(said.strip().splitlines()) <= 2 or code == 6 and said.count("sluice: ") == 1, (flags, said)
    return said


def refused_secret(program, model, file, variable, content, phrases):
    flags = list(TWO)
    if content is not None:
        text, mode = content
        file.unlink(missing_ok=True)
        file.write_text(text)
        file.chmod(mode)
        flags += ["--job-secret-file", str(file)]
    said = refused(program, model, flags, 2, phrases, variable)
    for secret in (variable, content and content[0].strip()):
        assert not secret or secret not in said, said


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    with tempfile.TemporaryDirectory() as directory:
        model = str(pathlib.Path(directory) / "model")
        subprocess.run([program, "checkpoint", "make", model, "--preset", "tiny", "--dtype", "bf16"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # A model without a file is a model to every flag, and one that is none is refused as a wrong directory is.
        refused(program, "random:tiny", ["--tp", "16"], 2, ["8 attention heads over 16 ranks"])
        refused(program, "random:tinny", [], 3, ["random:tinny", "did you mean tiny?"])
        refused(program, "random:tiny?layers=two", [], 3, ["layers=two is not a number of layers"])
        for flags, code, phrases in REFUSED:
            refused(program, model, flags, code, phrases)
        for partition, phrases in REFUSED_PARTITIONS:
            refused(program, model, ["--pp-size", "2"], 2, phrases, more={"SGLANG_PP_LAYER_PARTITION": partition})
        for flags, layers, ranks in ACCEPTED:
            accepted(program, model, flags, layers, ranks)
        for variable, content, phrases in SECRETS_REFUSED:
            refused_secret(program, model, pathlib.Path(directory) / "secret", variable, content, phrases)
        refused(program, str(pathlib.Path(directory) / "nowhere"), [], 3, ["nowhere", "not a directory"])
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            refused(program, model, ["--port", str(port), "--context-length", "1024"], 6, [str(port)])
    refusals = len(REFUSED) + len(REFUSED_PARTITIONS) + len(SECRETS_REFUSED) + 2
    print(f"ok {refusals} refusals, {len(ACCEPTED)} layouts accepted")


if __name__ == "__main__":
    main()
