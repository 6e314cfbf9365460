"""--load-mtp: the ranks of the last stage hold the multi-token-prediction layer, which /get_server_info, the log and the
memory plan say, and the answer is the one without it; without the flag it is skipped by name; a tensor that is missing
is named and nothing starts. Both families, 2 stages x 2 lanes of processes. Standard library only.
Usage: load_mtp_test.py --sluice PROGRAM"""

import argparse
import json
import pathlib
import re
import subprocess
import tempfile
import urllib.request

from sluice_server import serving

LAYOUT = ("--pp-size", "2", "--tp", "2", "--enable-nsa-prefill-context-parallel", "--ranks", "processes")
# Of 4 layers, so that it is layer 4 that predicts a token further.
FAMILIES = {"DeepSeek-V3.2": ["--preset", "v3.2-61"], "GLM-5.2": ["--preset", "glm-5.2-78"]}
PROMPT = [20 + i * 7919 % 900 for i in range(200)]


def asked(url, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read())


def served(program, model, log, *flags):
    """The answer, the MTP layers of every rank, and the log."""
    with serving(program, model, log, *LAYOUT, *flags) as server:
        completion = {"model": "m", "prompt": PROMPT, "max_tokens": 4, "temperature": 0, "logprobs": 3, "ignore_eos": True}
        answer = asked(f"{server.url}/v1/completions", completion)["choices"][0]
        layers = [rank["mtp_layers"] for rank in asked(f"{server.url}/get_server_info")["ranks"]]
    return answer, layers, log.read_text()


def check(program, family, preset, directory):
    model = directory / "model"
    subprocess.run([program, "checkpoint", "make", str(model), *preset, "--layers", "4", "--dtype", "fp8"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    without, layers, log = served(program, model, directory / "without.log")
    assert layers == [[], [], [], []], layers
    skipped = re.search(r"multi-token-prediction layers are not loaded: (\d+) tensors of model\.layers\.4\.\* are skipped", log)
    assert skipped and int(skipped[1]) > 50 and "MTP layers" not in log, log

    answer, layers, log = served(program, model, directory / "with.log", "--load-mtp")
    assert layers == [[], [], [4], [4]], layers
    assert answer == without, (answer, without)
    assert f"multi-token-prediction layers 4 are loaded by the ranks of the last stage, {skipped[1]} tensors" in log, log
    held = re.search(r"those of MTP layers on a rank of the last stage ([\d.]+) GiB", log)
    assert held and float(held[1]) > 0, log

    # A second layer that config.json calls for and the checkpoint does not have.
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_nextn_predict_layers": 2}))
    served(program, model, directory / "again.log")
    refused = subprocess.run([program, "serve", "--model-path", str(model), "--port", "0", "--load-mtp"], capture_output=True,
                             text=True, timeout=60, check=False)
    assert refused.returncode == 3, refused
    assert "tensor model.layers.5.enorm.weight of multi-token-prediction layer 5 is missing" in refused.stderr, refused.stderr
    print(f"ok {family}: layer 4 held by the last stage, {skipped[1]} tensors, {held[1]} GiB a rank; the answer is the same")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    options = parser.parse_args()
    for family, preset in FAMILIES.items():
        with tempfile.TemporaryDirectory() as directory:
            check(options.sluice, family, preset, pathlib.Path(directory))


if __name__ == "__main__":
    main()
