"""Writes exact_<name>.safetensors: what Transformers answers in float64 for the models of configs.EXACT.

    python make_vectors.py [name ...]

README.md describes the file. The run fails when fewer than 99.5 % of the rows that have a choice have a margin
above 1e-5 of the row's score deviation, or when the widened control disagrees.
"""

import json
import pathlib
import sys
import time

import numpy as np
import torch
from safetensors.numpy import save_file

import configs
import generator
import oracle
import selection_record

HERE = pathlib.Path(__file__).parent
MARGIN = 1e-5


def recorded_rows(prompt_tokens):
    """The first rows, those around index_topk, every 16th and the last of the prompt."""
    k = configs.INDEX_TOPK
    rows = {*range(8), *range(k - 4, k + 8), *range(0, prompt_tokens, 16), *range(prompt_tokens - 8, prompt_tokens)}
    return np.array(sorted(rows), np.int32)


def text(content):
    return np.frombuffer(content.encode(), np.uint8)


def relative_rms(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)))


def one(name, fixture, widened):
    begin = time.time()
    config = fixture["config"]
    specs = generator.table(config, fixture["dtype"])
    prompt = generator.prompt(fixture["seed"], fixture["prompt_tokens"], config["vocab_size"])
    model = oracle.build(fixture, specs)
    continuation, gaps = oracle.greedy(model, prompt, configs.GREEDY_TOKENS)
    tokens = np.concatenate([prompt, continuation])
    logits, selected, scores, router = oracle.run(model, tokens)
    logits = logits.numpy()
    # Token by token through the cache and all at once are the same model.
    assert np.array_equal(logits[len(prompt) - 1:-1].argmax(-1), continuation)

    layers = config["num_hidden_layers"]
    full = configs.full_layers(config)
    assert sorted(scores) == full
    source = [max(f for f in full if f <= layer) for layer in range(layers)]  # whose selection a layer uses
    scores = [scores[i].numpy() if i in full else None for i in range(layers)]
    selected = np.stack([selected[source[i]].numpy() for i in range(layers)])
    kept = selection_record.record(scores, configs.INDEX_TOPK)
    choice = kept["margin"] < selection_record.NO_CHOICE
    clear = choice & (kept["margin"] > MARGIN * kept["deviation"])
    exact = np.stack([selection_record.exact_selection(scores[i], configs.INDEX_TOPK) for i in source])
    assert (selected == exact)[clear].all(), "Transformers' fp32 scores chose otherwise in a clear row"
    share = clear.sum() / choice.sum()

    control_logits, control_selected, _, _ = oracle.run(oracle.build(fixture, specs, widened), tokens, selected)
    control_selected = np.stack([control_selected[i].numpy() for i in source])
    router_gap = min(float(m.min()) for m in router.values())
    print(f"{name}: {len(prompt)} + {len(continuation)} tokens, {layers} layers; clear rows {clear.sum()} of "
          f"{choice.sum()} with a choice = {100 * share:.3f} %; fp32 islands against float64, selection forced: relative rms of logits "
          f"{relative_rms(logits, control_logits.numpy()):.1e}, rows of other sets "
          f"{(selected != control_selected).any(-1).sum()}; smallest router gap {router_gap:.1e}, smallest greedy "
          f"gap {gaps.min():.1e}; {time.time() - begin:.0f} s", flush=True)
    assert share >= 0.995
    assert (selected == control_selected)[clear].all()

    rows = recorded_rows(len(prompt))
    save_file(dict(
        tokens=tokens, prompt_tokens=np.array([len(prompt)], np.int32),
        seed=np.array([fixture["seed"]], np.int32), selected=selection_record.bitmask(selected), **kept,
        logit_rows=rows, logits=logits[rows].astype(np.float32), greedy_gap=gaps,
        inv_freq=model.model.rotary_emb.inv_freq.float().numpy(),
        config_json=text(json.dumps(dict(config, torch_dtype="float32"), indent=2)),
        tensor_table=text(generator.table_text(specs)),
    ), HERE / f"exact_{name}.safetensors")
    (HERE / f"exact_{name}.safetensors").chmod(0o644)


def main():
    torch.set_num_threads(2)
    for name in sys.argv[1:] or configs.EXACT:
        fixture = configs.EXACT[name]
        one(name, fixture, oracle.widened_modeling(fixture["config"]["model_type"]))


if __name__ == "__main__":
    main()
