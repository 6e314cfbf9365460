"""lm-evaluation-harness (PyPI: lm-eval, datasets) with a local task file: its local-completions client against a server of
two stages of two lanes gives exactly the log-likelihoods that a server of one rank gives token by token over /generate.
Ends with code 77 when it is not installed. Usage: lm_eval_test.py --sluice PROGRAM"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import sluice_server

DOCUMENTS = [
    {"context": "The pipeline has two stages, and", "target": " each of them has two lanes."},
    {"context": "1 2 3 4 5 6 7 8", "target": " 9"},
    {"context": "x" * 300, "target": "y" * 40},
    {"context": "caf\u00e9 \u4f60\u597d", "target": " \u4e16\u754c!"},
    {"context": "a", "target": " b"},
]

TASK = """task: sluice_local
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{target}}}}"
target_delimiter: ""
metric_list:
  - metric: perplexity
    aggregation: perplexity
    higher_is_better: false
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def post(url, path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def likelihood(url, document):
    """The sum over the target's tokens, from the native route of the one-rank server, and whether all were likeliest."""
    context, whole = (post(url, "/tokenize", {"prompt": text})["tokens"]
                      for text in (document["context"], document["context"] + document["target"]))
    assert whole[:len(context)] == context, "choose a target that begins a token"
    info = post(url, "/generate", {"input_ids": whole, "return_logprob": True, "logprob_start_len": len(context),
                                   "top_logprobs_num": 1, "sampling_params": {"max_new_tokens": 0}})["meta_info"]
    values = [entry[0] for entry in info["input_token_logprobs"]]
    tops = [entry[0][0] for entry in info["input_top_logprobs"]]
    assert len(values) == len(whole) - len(context) > 0 and all(value < 0 for value in values)
    return sum(values), values == tops


def harness(url, scratch, **arguments):
    data = scratch / "documents.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    (scratch / "task.yaml").write_text(TASK.format(data=data))
    import lm_eval
    import lm_eval.tasks
    results = lm_eval.simple_evaluate(
        model="local-completions",
        model_args={"model": "m", "base_url": url + "/v1/completions", "max_length": 2048, **arguments},
        tasks=["sluice_local"], task_manager=lm_eval.tasks.TaskManager(include_path=str(scratch), include_defaults=False),
        bootstrap_iters=0, log_samples=True)
    samples = sorted(results["samples"]["sluice_local"], key=lambda sample: sample["doc_id"])
    return [tuple(sample["resps"][0][0]) for sample in samples]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        os.environ.update(HF_HOME=str(scratch / "hf"), HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
        model = str(scratch / "m")
        subprocess.run([program, "checkpoint", "make", model, "--preset", "tiny"], check=True, capture_output=True)
        with sluice_server.serving(program, model, scratch / "one.log") as one:
            wanted = [likelihood(one.url, document) for document in DOCUMENTS]
        with sluice_server.serving(program, model, scratch / "four.log", "--pp-size", "2", "--tp", "2",
                                   "--enable-nsa-prefill-context-parallel", "--chunked-prefill-size", "64") as four:
            for arguments in ({}, {"batch_size": 3}, {"num_concurrent": 4}):
                found = harness(four.url, scratch, **arguments)
                assert [(float(value), bool(greedy)) for value, greedy in found] == wanted, (arguments, found, wanted)
                print("ok", arguments or "one at a time", [round(value, 6) for value, _ in found])
    assert all(math.isfinite(value) for value, _ in wanted)


if __name__ == "__main__":
    if not all(importlib.util.find_spec(name) for name in ("lm_eval", "datasets", "aiohttp", "tenacity")):
        print("left out: the lm-eval package with its api part is not installed")
        sys.exit(77)
    main()
    sys.exit(0)
