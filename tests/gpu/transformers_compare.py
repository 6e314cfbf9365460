#!/usr/bin/env python3
"""Compares what gpu_record_run wrote with Transformers' model of the same family in bf16.

    gpu_record_run 'random:v3.2?dense=1&layers=3&vocab=4096&seed=7&embedding_gain=8' 4096 DIRECTORY
    gpu_record_run 'random:glm-5.2?dense=1&layers=4&vocab=4096&seed=7&embedding_gain=8&rms_norm_eps=1e-6' 4096 DIRECTORY
    transformers_compare.py DIRECTORY [DIRECTORY...]

DeepSeek-V3.2 is its DeepseekV32ForCausalLM, GLM-5 its GlmMoeDsaForCausalLM, whose norms of the low-rank projections have
an eps of 1e-6 whatever the config says.

The weights are the recorded run's, made here from the formula alone: FP8 ones as code times scale, which bf16 holds
exactly. Attention uses the recorded selection, so that a close choice between two keys is not what is measured. The
engine rounds activations to e4m3 before every FP8 linear and Transformers does not: most of the distance is that.

    distance of a row = rms(engine - Transformers) / rms(Transformers) over the logits
    BOUND is for the median row; written before the first run. A mutant of Transformers must lie beyond it.

Needs torch and transformers; on a GPU where there is one.
"""

import argparse
import json
import math
import pathlib
import sys

import numpy as np
import torch
from transformers import DeepseekV32Config, GlmMoeDsaConfig
from transformers.models.deepseek_v32.modeling_deepseek_v32 import DeepseekV32ForCausalLM
from transformers.models.glm_moe_dsa.modeling_glm_moe_dsa import GlmMoeDsaForCausalLM

BOUND = 2e-2
CLEAR = 8  # two logits of a row that is off by rms BOUND differ by more than this once in 10^7
FAMILIES = {"deepseek_v32": (DeepseekV32Config, DeepseekV32ForCausalLM),
            "glm_moe_dsa": (GlmMoeDsaConfig, GlmMoeDsaForCausalLM)}
MASK = (1 << 64) - 1
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def signed(x):
    x &= MASK
    return x - (1 << 64) if x >> 63 else x


def splitmix64(x):
    """Of an int64 tensor, in place; the products wrap."""
    def shifted(n):
        return (x >> n) & ((1 << (64 - n)) - 1)

    x += signed(0x9E3779B97F4A7C15)
    x ^= shifted(30)
    x *= signed(0xBF58476D1CE4E5B9)
    x ^= shifted(27)
    x *= signed(0x94D049BB133111EB)
    x ^= shifted(31)
    return x


def fnv1a64(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


class Weights:
    """The tensors of a random model (src/checkpoint/random_weights.h): fp32(center + spread (2 u - 1))."""

    def __init__(self, seed, embedding_gain):
        self.seed, self.gain, self.used = seed, embedding_gain, 0

    def _values(self, name, shape, center, spread):
        start = splitmix64(torch.tensor([signed(self.seed ^ fnv1a64(name))]))[0].item()
        h = splitmix64(torch.arange(math.prod(shape), dtype=torch.int64, device=DEVICE) + start)
        u = ((h >> 40) & ((1 << 24) - 1)).double() * 2.0**-24
        self.used += 1
        return (center + spread * (2.0 * u - 1.0)).float().view(shape)

    def linear(self, name, shape, fp8):
        w = self._values(name, shape, 0.0, math.sqrt(3.0 / shape[-1]))
        if not fp8:
            return w.bfloat16()
        rows, cols = shape
        padded = torch.zeros(-(-rows // 128) * 128, -(-cols // 128) * 128, device=DEVICE)
        padded[:rows, :cols] = w
        blocks = padded.view(padded.shape[0] // 128, 128, padded.shape[1] // 128, 128)
        amax = blocks.abs().amax(dim=(1, 3), keepdim=True).clamp(min=1e-4)
        scale = torch.exp2(torch.ceil(torch.log2(amax.double() / 448.0))).float()
        codes = (blocks / scale).to(torch.float8_e4m3fn).float()
        return (codes * scale).view(padded.shape)[:rows, :cols].bfloat16()

    def of(self, name, shape):
        if name.endswith("e_score_correction_bias"):
            return self._values(name, shape, 0.0, 0.087)
        if name.endswith("k_norm.bias"):
            return self._values(name, shape, 0.0, 0.17).bfloat16()
        if "norm" in name:
            return self._values(name, shape, 1.0, 0.17).bfloat16()
        if name == "model.embed_tokens.weight":
            return self._values(name, shape, 0.0, self.gain * math.sqrt(3.0)).bfloat16()
        kept = name == "lm_head.weight" or name.endswith(("mlp.gate.weight", "weights_proj.weight"))
        return self.linear(name, shape, fp8=not kept)


def config_of(fields):
    known = {k: v for k, v in fields.items() if k not in (
        "architectures", "model_type", "moe_layer_freq", "scoring_func", "topk_method", "num_nextn_predict_layers",
        "rope_theta", "rope_scaling", "quantization_config", "torch_dtype", "ep_size", "indexer_rope_interleave")}
    scaling = fields.get("rope_scaling")
    if "rope_parameters" not in fields:
        known["rope_parameters"] = dict(rope_type="default", rope_theta=fields["rope_theta"]) if scaling is None else dict(
            {k: v for k, v in scaling.items() if k != "type"}, rope_type="yarn", rope_theta=fields["rope_theta"])
    config = FAMILIES[fields["model_type"]][0](**known)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    return config


@torch.no_grad()
def build(config, weights):
    with torch.device(DEVICE):
        model = FAMILIES[config.model_type][1]._from_config(config, dtype=torch.bfloat16).eval()
    for name, target in list(model.named_parameters()) + list(model.named_buffers()):
        if "inv_freq" in name:
            assert target.dtype == torch.float32, name
        elif ".experts." in name and name.endswith("gate_up_proj"):
            prefix, width = name.rsplit(".", 1)[0], target.shape[1] // 2
            for e in range(target.shape[0]):
                for half, part in enumerate(("gate_proj", "up_proj")):
                    shape = (width, target.shape[2])
                    target[e, half * width:(half + 1) * width] = weights.of(f"{prefix}.{e}.{part}.weight", shape)
        elif ".experts." in name and name.endswith("down_proj"):
            for e in range(target.shape[0]):
                target[e] = weights.of(f"{name.rsplit('.', 1)[0]}.{e}.down_proj.weight", tuple(target.shape[1:]))
        else:
            target.data = weights.of(name, tuple(target.shape)).to(
                torch.float32 if name.endswith("e_score_correction_bias") else target.dtype)
    return model


def indices_of(selection, change):
    """[T, k] positions with -1 after the last -> the indexer's output, short rows filled with their first key."""
    chosen = torch.from_numpy(selection).to(DEVICE)
    if change == "half of the keys":
        count = (chosen >= 0).sum(1, keepdim=True)
        keep = torch.arange(chosen.shape[1], device=DEVICE)[None] < (count + 1) // 2
        chosen = torch.where(keep, chosen, -1)
    return torch.where(chosen >= 0, chosen, chosen[:, :1])[None].contiguous()


def with_indexer(model):
    """The layers that select; in GLM-5.2 others attend to what the one before them has selected."""
    return [layer for layer in model.model.layers if layer.self_attn.indexer is not None]


MUTANTS = ("half of the keys", "no shared expert", "one expert fewer", "no rotation")


@torch.no_grad()
def run(model, tokens, selections, change=None):
    handles = []
    for i, layer in enumerate(with_indexer(model)):
        def on_indexer(module, args, output, i=i):
            return indices_of(selections[i], change).to(output.dtype)
        handles.append(layer.self_attn.indexer.register_forward_hook(on_indexer))
    for layer in model.model.layers:
        if change == "no shared expert" and hasattr(layer.mlp, "shared_experts"):
            handles.append(layer.mlp.shared_experts.register_forward_hook(lambda m, a, out: torch.zeros_like(out)))
        if change == "one expert fewer" and hasattr(layer.mlp, "gate"):
            gate = layer.mlp.gate
            def restore(gate=gate, top_k=gate.top_k):
                gate.top_k = top_k
            gate.top_k -= 1
            handles.append(type("Restore", (), {"remove": staticmethod(restore)}))
    if change == "no rotation":
        def unturned(module, args, out):
            return torch.ones_like(out[0]), torch.zeros_like(out[1])
        handles.append(model.model.rotary_emb.register_forward_hook(unturned))
    ids = torch.from_numpy(tokens).long().to(DEVICE)[None]
    logits = model(ids, use_cache=False).logits[0].float()
    for handle in handles:
        handle.remove()
    return logits


def distances(engine, logits):
    gap = (engine - logits).double().square().mean(1).sqrt()
    return (gap / logits.double().square().mean(1).sqrt()).cpu().numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="+", type=pathlib.Path)
    parser.add_argument("--mutants", action="store_true", help="also how far Transformers with a rule broken lies")
    arguments = parser.parse_args()
    model = made_of = None
    within = True
    for directory in arguments.directory:
        fields = json.loads((directory / "config.json").read_text())
        made = json.loads((directory / "run.json").read_text())
        if (fields, made["seed"], made["embedding_gain"]) != made_of:
            model = build(config_of(fields), Weights(made["seed"], made["embedding_gain"]))
            made_of = (fields, made["seed"], made["embedding_gain"])
        tokens = np.fromfile(directory / "tokens.i32", np.int32)
        engine = np.fromfile(directory / "logits.f32", np.float32).reshape(len(tokens), -1)
        engine = torch.from_numpy(engine).to(DEVICE)
        selections = np.fromfile(directory / "selections.i32", np.int32).reshape(
            len(with_indexer(model)), len(tokens), fields["index_topk"])
        logits = run(model, tokens, selections)
        found = distances(engine, logits)
        median, p99, largest = np.quantile(found, [0.5, 0.99, 1.0])
        # A row whose two most likely tokens lie further apart than CLEAR bounds has one greedy token.
        best = logits.topk(2, dim=1).values
        clear = best[:, 0] - best[:, 1] > CLEAR * BOUND * logits.square().mean(1).sqrt()
        others = int((clear & (engine.argmax(1) != logits.argmax(1))).sum())
        good = median <= BOUND and others == 0
        within &= good
        print(f"{directory.name}: {len(tokens)} rows, {made['ops']}, {made['cache']} cache: relative rms median "
              f"{median:.2e} p99 {p99:.2e} largest {largest:.2e}, other greedy tokens in {others} of {int(clear.sum())} clear rows: "
              f"{'within' if good else 'BEYOND'} {BOUND}", flush=True)
        for change in MUTANTS if arguments.mutants else ():
            moved = float(np.median(distances(engine, run(model, tokens, selections, change))))
            print(f"  {change}: median {moved:.2e}{'' if moved > BOUND else ' (NOT beyond)'}", flush=True)
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
