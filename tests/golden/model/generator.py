"""Weights from counters, the same bits in any language.

Element i (row-major) of tensor `name` of the checkpoint with seed s:

    h = splitmix64(splitmix64(s ^ fnv1a64(name)) + i)              64-bit, wrapping
    splitmix64(x): x += 0x9E3779B97F4A7C15
                   x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
                   x = (x ^ (x >> 27)) * 0x94D049BB133111EB
                   return x ^ (x >> 31)
    u = (h >> 40) * 2^-24                                          in [0, 1)
    value = fp32(center + spread * (2 u - 1))                      in double, rounded once

center and spread are fp32 numbers: linears 0 and sqrt(3 / fan_in); norm weights 1 and 0.17; k_norm.bias 0 and 0.17;
e_score_correction_bias 0 and 0.087; embeddings 0 and sqrt(3). So activations keep unit variance, attention is not
flat and index scores do not tie. A BF16 tensor is the fp32 value rounded to nearest even.

An F8_E4M3 tensor is the fp32 value quantised per 128 x 128 block: scale = 2^ceil(log2(max(amax, 1e-4) / 448)),
e4m3(value / scale); <name>_scale_inv holds the scale (the multiplier). Tensors of the FP8 checkpoints may have
outlier rows: row r with r % outlier_step == outlier_at is multiplied by outlier_gain (a power of two) before
anything is rounded, which is how real checkpoints look and what the Hadamard transform is for.

`table(...)` lists the tensors of a checkpoint; its text form travels in the vectors, so that a reader needs no
rule but the formula above:  name dtype rank shape... center spread outlier_step outlier_at outlier_gain
with center and spread as the hexadecimal bits of the fp32 number.
"""

from dataclasses import dataclass

import numpy as np

import configs

MASK = (1 << 64) - 1


@dataclass(frozen=True)
class TensorSpec:
    name: str
    dtype: str  # F32, BF16 or F8_E4M3
    shape: tuple
    center: float
    spread: float
    outlier_step: int = 0
    outlier_at: int = 0
    outlier_gain: float = 1.0

    def line(self):
        bits = [f"{np.float32(v).view(np.uint32):08x}" for v in (self.center, self.spread)]
        shape = " ".join(str(n) for n in self.shape)
        return (f"{self.name} {self.dtype} {len(self.shape)} {shape} {bits[0]} {bits[1]} "
                f"{self.outlier_step} {self.outlier_at} {int(self.outlier_gain)}")


def fnv1a64(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def splitmix64(x):
    with np.errstate(over="ignore"):
        x = np.asarray(x, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def values(spec, seed):
    """The fp32 values of a tensor, before any narrower rounding."""
    count = int(np.prod(spec.shape))
    start = splitmix64(np.uint64((seed ^ fnv1a64(spec.name)) & MASK))
    with np.errstate(over="ignore"):
        h = splitmix64(start + np.arange(count, dtype=np.uint64))
    u = (h >> np.uint64(40)).astype(np.float64) * 2.0**-24
    center, spread = np.float64(np.float32(spec.center)), np.float64(np.float32(spec.spread))
    out = (center + spread * (2.0 * u - 1.0)).astype(np.float32).reshape(spec.shape)
    if spec.outlier_step:
        out[spec.outlier_at::spec.outlier_step] *= np.float32(spec.outlier_gain)
    return out


def prompt(seed, count, vocab_size):
    """Token ids: splitmix64 of the tensor named "prompt", modulo the vocabulary."""
    start = splitmix64(np.uint64((seed ^ fnv1a64("prompt")) & MASK))
    with np.errstate(over="ignore"):
        h = splitmix64(start + np.arange(count, dtype=np.uint64))
    return ((h >> np.uint64(40)) % np.uint64(vocab_size)).astype(np.int32)


def table(config, dtype, embedding_gain=1.0):
    """Every tensor of a checkpoint in file order. dtype "float32": all F32. "fp8": as DeepSeek-V3.2 stores them."""
    fp8 = dtype == "fp8"
    kind = dict(linear="F8_E4M3" if fp8 else "F32", plain="BF16" if fp8 else "F32")
    specs = []
    hidden, rope, latent = config["hidden_size"], config["qk_rope_head_dim"], config["kv_lora_rank"]
    heads, nope, value = config["num_attention_heads"], config["qk_nope_head_dim"], config["v_head_dim"]
    q_lora, index_dim, index_heads = config["q_lora_rank"], config["index_head_dim"], config["index_n_heads"]

    def linear(name, rows, cols, stored="linear", **outliers):
        specs.append(TensorSpec(name + ".weight", kind[stored], (rows, cols), 0.0, (3.0 / cols) ** 0.5,
                                **(outliers if fp8 else {})))

    def norm(name, width):
        specs.append(TensorSpec(name + ".weight", kind["plain"], (width,), 1.0, 0.17))

    def mlp(prefix, width):
        linear(prefix + "gate_proj", width, hidden)
        linear(prefix + "up_proj", width, hidden)
        linear(prefix + "down_proj", hidden, width)

    specs.append(TensorSpec("model.embed_tokens.weight", kind["plain"], (config["vocab_size"], hidden), 0.0,
                            embedding_gain * 3.0**0.5))
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        norm(prefix + "input_layernorm", hidden)
        attention = prefix + "self_attn."
        linear(attention + "q_a_proj", q_lora, hidden)
        norm(attention + "q_a_layernorm", q_lora)
        linear(attention + "q_b_proj", heads * (nope + rope), q_lora)
        linear(attention + "kv_a_proj_with_mqa", latent + rope, hidden)
        norm(attention + "kv_a_layernorm", latent)
        linear(attention + "kv_b_proj", heads * (nope + value), latent)
        linear(attention + "o_proj", hidden, heads * value)
        if layer in configs.full_layers(config):
            indexer = attention + "indexer."
            linear(indexer + "wq_b", index_heads * index_dim, q_lora, outlier_step=32, outlier_at=5, outlier_gain=8.0)
            linear(indexer + "wk", index_dim, hidden, outlier_step=32, outlier_at=5, outlier_gain=8.0)
            norm(indexer + "k_norm", index_dim)
            specs.append(TensorSpec(indexer + "k_norm.bias", kind["plain"], (index_dim,), 0.0, 0.17))
            linear(indexer + "weights_proj", index_heads, hidden, stored="plain")
        norm(prefix + "post_attention_layernorm", hidden)
        if layer < config["first_k_dense_replace"]:
            mlp(prefix + "mlp.", config["intermediate_size"])
            continue
        experts, width = config["n_routed_experts"], config["moe_intermediate_size"]
        linear(prefix + "mlp.gate", experts, hidden, stored="plain")
        specs.append(TensorSpec(prefix + "mlp.gate.e_score_correction_bias", "F32", (experts,), 0.0, 0.087))
        mlp(prefix + "mlp.shared_experts.", width * config["n_shared_experts"])
        for expert in range(experts):
            mlp(prefix + f"mlp.experts.{expert}.", width)
    norm("model.norm", hidden)
    linear("lm_head", config["vocab_size"], hidden, stored="plain")
    return specs


def table_text(specs):
    return "".join(spec.line() + "\n" for spec in specs)
