"""Writes a DeepSeek-V3.2 checkpoint of `sluice checkpoint make` (F32 or BF16 safetensors) as a GGUF file of the
architecture `deepseek32`, F32, so that a llama.cpp library runs the same weights. Needs numpy.
Usage: gguf_export.py CHECKPOINT OUT.gguf

GGUF v3: magic, version, counts; typed key/values; one record per tensor (name, extents fastest first, type, offset);
then the data, each tensor at a multiple of 32. All little-endian."""

import json
import pathlib
import struct
import sys

import numpy

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5  # types of values; F32 is also tensor type 0
ALIGNMENT = 32


class Checkpoint:
    """The tensors of a directory of safetensors files, as F32 arrays."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.config = json.loads((self.directory / "config.json").read_text())
        self.places = {}
        for path in sorted(self.directory.glob("*.safetensors")):
            with path.open("rb") as file:
                size = struct.unpack("<Q", file.read(8))[0]
                header = json.loads(file.read(size))
            for name, entry in header.items():
                if name != "__metadata__":
                    self.places[name] = (path, 8 + size + entry["data_offsets"][0], entry)

    def __getitem__(self, name):
        path, offset, entry = self.places[name]
        shape = tuple(entry["shape"])
        if entry["dtype"] == "F32":
            return numpy.fromfile(path, "<f4", int(numpy.prod(shape)), offset=offset).reshape(shape)
        if entry["dtype"] != "BF16":
            raise SystemExit(f"{path}: {name} is {entry['dtype']}; a checkpoint of --dtype f32 or bf16 is expected.")
        bits = numpy.fromfile(path, "<u2", int(numpy.prod(shape)), offset=offset).astype("<u4") << 16
        return bits.view("<f4").reshape(shape)


def keys_of(config):
    """The key/values: (key, type, value) without the architecture's prefix, then those without a prefix."""
    c = config
    if c.get("rope_scaling"):
        raise SystemExit("The export has no YaRN: make the checkpoint with --config-override rope_scaling=null.")
    width = c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
    keys = [
        ("vocab_size", U32, c["vocab_size"]),
        ("context_length", U32, c["max_position_embeddings"]),
        ("embedding_length", U32, c["hidden_size"]),
        ("block_count", U32, c["num_hidden_layers"]),
        ("feed_forward_length", U32, c["intermediate_size"]),
        ("leading_dense_block_count", U32, c["first_k_dense_replace"]),
        ("expert_feed_forward_length", U32, c["moe_intermediate_size"]),
        ("expert_count", U32, c["n_routed_experts"]),
        ("expert_used_count", U32, c["num_experts_per_tok"]),
        ("expert_shared_count", U32, c["n_shared_experts"]),
        ("expert_group_count", U32, c["n_group"]),
        ("expert_group_used_count", U32, c["topk_group"]),
        ("expert_gating_func", U32, 2),  # sigmoid
        ("expert_weights_scale", F32, c["routed_scaling_factor"]),
        ("expert_weights_norm", BOOL, c["norm_topk_prob"]),
        ("attention.head_count", U32, c["num_attention_heads"]),
        ("attention.head_count_kv", U32, 1),
        ("attention.key_length", U32, c["kv_lora_rank"] + c["qk_rope_head_dim"]),
        ("attention.value_length", U32, c["kv_lora_rank"]),
        ("attention.key_length_mla", U32, width),
        ("attention.value_length_mla", U32, c["v_head_dim"]),
        ("attention.q_lora_rank", U32, c["q_lora_rank"]),
        ("attention.kv_lora_rank", U32, c["kv_lora_rank"]),
        ("attention.layer_norm_rms_epsilon", F32, c["rms_norm_eps"]),
        ("attention.indexer.head_count", U32, c["index_n_heads"]),
        ("attention.indexer.key_length", U32, c["index_head_dim"]),
        ("attention.indexer.top_k", U32, c["index_topk"]),
        ("rope.dimension_count", U32, c["qk_rope_head_dim"]),
        ("rope.freq_base", F32, float(c["rope_theta"])),
    ]
    # A vocabulary that is never used: token ids go in, logits come out.
    words = [f"t{i}" for i in range(c["vocab_size"])]
    tokenizer = [
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "default"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, words)),
        ("tokenizer.ggml.token_type", ARRAY, (I32, [1] * len(words))),
        ("tokenizer.ggml.merges", ARRAY, (STRING, ["t 0"])),
        ("tokenizer.ggml.bos_token_id", U32, 0),
        ("tokenizer.ggml.eos_token_id", U32, 1),
    ]
    named = [("general.architecture", STRING, "deepseek32"), ("general.name", STRING, "sluice random"),
             ("general.alignment", U32, ALIGNMENT)]
    return named + [("deepseek32." + key, kind, value) for key, kind, value in keys] + tokenizer


def tensors_of(checkpoint):
    """(name, array) of every tensor; extents as in the checkpoint, slowest first."""
    c = checkpoint.config
    heads, nope, value = c["num_attention_heads"], c["qk_nope_head_dim"], c["v_head_dim"]
    yield "token_embd.weight", checkpoint["model.embed_tokens.weight"]
    for layer in range(c["num_hidden_layers"]):
        source, target = f"model.layers.{layer}.", f"blk.{layer}."
        attention = source + "self_attn."
        for ours, theirs in (("q_a_proj", "attn_q_a"), ("q_a_layernorm", "attn_q_a_norm"), ("q_b_proj", "attn_q_b"),
                             ("kv_a_proj_with_mqa", "attn_kv_a_mqa"), ("kv_a_layernorm", "attn_kv_a_norm"),
                             ("o_proj", "attn_output"), ("indexer.wq_b", "indexer.attn_q_b"),
                             ("indexer.wk", "indexer.attn_k"), ("indexer.k_norm", "indexer.k_norm"),
                             ("indexer.weights_proj", "indexer.proj")):
            yield target + theirs + ".weight", checkpoint[attention + ours + ".weight"]
        yield target + "indexer.k_norm.bias", checkpoint[attention + "indexer.k_norm.bias"]
        # kv_b_proj has, head by head, the rows of W_uk and those of W_uv; the first go in transposed.
        both = checkpoint[attention + "kv_b_proj.weight"].reshape(heads, nope + value, c["kv_lora_rank"])
        yield target + "attn_k_b.weight", both[:, :nope].transpose(0, 2, 1)
        yield target + "attn_v_b.weight", both[:, nope:]
        yield target + "attn_norm.weight", checkpoint[source + "input_layernorm.weight"]
        yield target + "ffn_norm.weight", checkpoint[source + "post_attention_layernorm.weight"]
        mlp = source + "mlp."
        if layer < c["first_k_dense_replace"]:
            for part in ("gate", "up", "down"):
                yield f"{target}ffn_{part}.weight", checkpoint[f"{mlp}{part}_proj.weight"]
            continue
        yield target + "ffn_gate_inp.weight", checkpoint[mlp + "gate.weight"]
        yield target + "exp_probs_b.bias", checkpoint[mlp + "gate.e_score_correction_bias"]
        for part in ("gate", "up", "down"):
            experts = [checkpoint[f"{mlp}experts.{e}.{part}_proj.weight"] for e in range(c["n_routed_experts"])]
            yield f"{target}ffn_{part}_exps.weight", numpy.stack(experts)
            yield f"{target}ffn_{part}_shexp.weight", checkpoint[f"{mlp}shared_experts.{part}_proj.weight"]
    yield "output_norm.weight", checkpoint["model.norm.weight"]
    yield "output.weight", checkpoint["lm_head.weight"]


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def packed(kind, value):
    if kind == STRING:
        return text(value)
    if kind == ARRAY:
        of, items = value
        return struct.pack("<IQ", of, len(items)) + b"".join(packed(of, item) for item in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def padded(size):
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def export(directory, path):
    checkpoint = Checkpoint(directory)
    keys = keys_of(checkpoint.config)
    tensors = [(name, numpy.ascontiguousarray(array, "<f4")) for name, array in tensors_of(checkpoint)]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    head += b"".join(text(key) + struct.pack("<I", kind) + packed(kind, value) for key, kind, value in keys)
    offset = 0
    for name, array in tensors:
        extents = array.shape[::-1]
        head += text(name) + struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, 0, offset)
        offset += padded(array.nbytes)
    with open(path, "wb") as file:
        file.write(head.ljust(padded(len(head)), b"\0"))
        for _, array in tensors:
            file.write(array.tobytes().ljust(padded(array.nbytes), b"\0"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    export(sys.argv[1], sys.argv[2])
