"""Writes fp8_<name>.safetensors and fp8_distances.txt: the fp8 mode by fp8_simulation.py for configs.FP8.

    python make_fp8_vectors.py

The run fails when the simulation's own noise (jitter) breaks a bound of distance.py, or when a mutant of REQUIRED
breaks none in any of the models.
"""

import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

import configs
import distance
import generator
import selection_record
from fp8_simulation import MUTANTS, Simulation, Weights

HERE = pathlib.Path(__file__).parent
REQUIRED = ("no_hadamard", "no_power_of_two_scale", "bf16_gate", "wrong_rope_half", "interleaved_indexer_rope",
            "one_key_fewer", "no_norm_bias", "no_latent_quantisation", "no_softmax_magnitude")
DEEP_WINDOW = 0.25  # of near keys behind a first layer, where sets may differ by more
ROUTER_MARGIN = 4e-3  # rows below it in any layer are on the fence between two experts and their logits not compared


def text(content):
    return np.frombuffer(content.encode(), np.uint8)


def as_mask(selected, rows):
    mask = np.zeros((rows, rows + 1), bool)
    np.put_along_axis(mask, np.where(selected < 0, rows, selected), True, -1)
    return mask[:, :rows]


def compare(simulation, tokens, rows, reference):
    """One line of fp8_distances.txt and which bounds it breaks."""
    logits, scores, selected = reference
    k = configs.INDEX_TOPK
    other, _, other_selected = simulation.forward(tokens, selected)
    rms, p99 = distance.logits_distance(other[rows], logits[rows])
    broken = (["rms"] if rms > distance.RELATIVE_RMS else []) + (["p99"] if p99 > distance.P99 else [])
    parts = [f"rms {rms:.1e} p99 {p99:.1e}"]
    for layer in range(len(scores)):
        strict, mean = distance.regret(scores[layer], selected[layer], other_selected[layer], k)
        strict, largest = float(np.quantile(strict, 0.99)), float(mean.max())
        parts.append(f"layer {layer}: regret strict p99 {strict:.1e} mean {largest:.1e}")
        if layer == 0 and strict > distance.REGRET:
            broken.append("strict regret")
        if largest > (distance.REGRET if layer == 0 else distance.DEEP_MEAN_REGRET):
            broken.append(f"mean regret of layer {layer}")
    return "; ".join(parts), broken


def one(name, fixture, report):
    config = fixture["config"]
    specs = generator.table(config, fixture["dtype"], fixture["embedding_gain"])
    weights = Weights(specs, fixture["seed"])
    tokens = generator.prompt(fixture["seed"], fixture["prompt_tokens"], config["vocab_size"])
    simulation = Simulation(config, weights)
    reference = simulation.forward(tokens)
    logits, scores, selected = reference
    clear = simulation.router_margin > ROUTER_MARGIN
    rows = np.nonzero(clear)[0][::5]
    report(f"{name}: {len(tokens)} rows, {clear.sum()} with clear experts, {len(rows)} rows of logits")
    assert len(rows) >= 64

    broken_by = {}
    for kind, run in [("jitter", Simulation(config, weights, jitter=1))] + [
            (mutant, Simulation(config, weights, mutant=mutant)) for mutant in MUTANTS]:
        line, broken = compare(run, tokens, rows, reference)
        report(f"  {kind:25s} {line}  -> {', '.join(broken) or 'within all bounds'}")
        broken_by[kind] = bool(broken)
    assert not broken_by["jitter"]

    mask = np.stack([as_mask(s, len(tokens)) for s in selected])
    save_file(dict(
        tokens=tokens, prompt_tokens=np.array([len(tokens)], np.int32),
        seed=np.array([fixture["seed"]], np.int32), selected=selection_record.bitmask(mask),
        **selection_record.record(scores, configs.INDEX_TOPK,
                                  [selection_record.WINDOW] + [DEEP_WINDOW] * (len(scores) - 1)),
        logit_rows=rows.astype(np.int32), logits=logits[rows].astype(np.float32), inv_freq=simulation.inv_freq,
        config_json=text(json.dumps(dict(config, torch_dtype="bfloat16"), indent=2)),
        tensor_table=text(generator.table_text(specs)),
    ), HERE / f"{name}.safetensors")
    (HERE / f"{name}.safetensors").chmod(0o644)
    return broken_by


def main():
    lines = []

    def report(line):
        print(line, flush=True)
        lines.append(line)

    broken = [one(name, fixture, report) for name, fixture in configs.FP8.items()]
    for mutant in REQUIRED:
        assert any(b[mutant] for b in broken), f"no bound notices {mutant}"
    (HERE / "fp8_distances.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
