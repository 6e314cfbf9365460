"""The forward pass of the fp8 mode in float64, rounding where the engine rounds (docs/numerics.md, src/ops/ops.h).

Written from the model specification and the list of rounding points alone; sums are float64, so it differs from an
engine only by what fp32 sums lose, and by the bf16 and e4m3 steps that such a loss tips over. `jitter` imitates that
loss (every sum is multiplied by 1 + 2e-7 N(0, 1)) and so measures how far two faithful engines may lie apart.

A mutant is one rule broken: see MUTANTS.
"""

import math

import numpy as np

import generator
import rounding
from rounding import to_bf16, to_f32

MUTANTS = {
    "no_hadamard": "index queries and keys quantised without the Hadamard transform",
    "no_power_of_two_scale": "activation, latent and index scales are amax / 448, not the next power of two",
    "bf16_gate": "weights_proj's output rounded to bf16",
    "wrong_rope_half": "the indexer rotates the last 64 channels of 128, not the first",
    "interleaved_indexer_rope": "the indexer rotates pairs (2i, 2i + 1), not (i, i + 32); for GLM the other way",
    "one_key_fewer": "attention leaves out the selected key of the lowest score",
    "no_norm_bias": "k_norm without its bias",
    "no_latent_quantisation": "the latent cache holds bf16, not e4m3",
    "unrounded_tree": "the nodes of the expert sum are not rounded to bf16",
    "no_softmax_magnitude": "the softmax scale without YaRN's m^2",
}


class Weights:
    """The tensors of a fixture as the fp8 mode uses them, float64."""

    def __init__(self, specs, seed):
        self.specs = {spec.name: spec for spec in specs}
        self.seed = seed
        self.values = {}

    def __getitem__(self, name):
        if name not in self.values:
            spec = self.specs[name]
            raw = generator.values(spec, self.seed).astype(np.float64)
            if spec.dtype == "BF16":
                raw = to_bf16(raw)
            elif spec.dtype == "F8_E4M3":
                e4m3, scale = rounding.quantise_matrix(raw)
                raw = e4m3 * rounding.expand_scale(scale, raw.shape)
            self.values[name] = raw
        return self.values[name]

    def is_fp8(self, name):
        return self.specs[name].dtype == "F8_E4M3"


class Simulation:
    def __init__(self, config, weights, mutant=None, jitter=None):
        assert mutant is None or mutant in MUTANTS
        self.c = config
        self.w = weights
        self.mutant = mutant
        self.noise = None if jitter is None else np.random.default_rng(jitter)
        self.scale_of = (rounding.fp32_scale if mutant == "no_power_of_two_scale" else rounding.power_of_two_scale)
        self.hadamard = rounding.hadamard(config["index_head_dim"]) * config["index_head_dim"]**-0.5
        self.inv_freq, self.softmax_scale = self._rope()

    def _rope(self):
        c, half = self.c, self.c["qk_rope_head_dim"] // 2
        i = np.arange(half)
        # fp32, operation by operation, as Transformers has it
        one = np.float32(1)
        theta = c.get("rope_parameters", c)["rope_theta"]
        wavelength = (float(theta)**(i / half)).astype(np.float32)
        frequency = one / wavelength
        scale = (c["qk_nope_head_dim"] + c["qk_rope_head_dim"])**-0.5
        y = c.get("rope_scaling")
        if y is not None:
            def correction(rotations):
                return half * math.log(y["original_max_position_embeddings"] / (rotations * 2 * math.pi)) / math.log(theta)
            low = max(math.floor(correction(y["beta_fast"])), 0)
            high = min(math.ceil(correction(y["beta_slow"])), 2 * half - 1)
            ramp = np.clip((i - low) / (high - low), 0, 1).astype(np.float32)
            kept = one - ramp
            frequency = one / (np.float32(y["factor"]) * wavelength) * (one - kept) + frequency * kept
            if self.mutant != "no_softmax_magnitude":
                scale *= (0.1 * y["mscale_all_dim"] * math.log(y["factor"]) + 1)**2
        return frequency, scale

    def sum(self, x):
        """Marks a sum an engine makes in fp32."""
        return x if self.noise is None else x * (1 + 2e-7 * self.noise.standard_normal(x.shape))

    def linear(self, x, name):
        if self.w.is_fp8(name):
            x = rounding.dequantised_rows(x, self.scale_of)
        return self.sum(x @ self.w[name].T)

    def rms_norm(self, x, name):
        mean = np.mean(x * x, -1, keepdims=True)
        return to_bf16(self.sum(self.w[name] * (x / np.sqrt(mean + self.c["rms_norm_eps"]))))

    def rotate(self, x, positions, interleaved):
        """x [T, ..., 64]; pairs (2i, 2i + 1) or (i, i + 32), written back where they came from."""
        angle = (positions.astype(np.float32)[:, None] * self.inv_freq[None]).astype(np.float64)
        angle = angle.reshape(len(x), *(1,) * (x.ndim - 2), -1)
        cos, sin = to_f32(np.cos(angle)), to_f32(np.sin(angle))
        half = x.shape[-1] // 2
        first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
        out = np.empty_like(x)
        a, b = self.sum(first * cos - second * sin), self.sum(second * cos + first * sin)
        if interleaved:
            out[..., 0::2], out[..., 1::2] = a, b
        else:
            out[..., :half], out[..., half:] = a, b
        return out

    # ---- attention ----

    def index_vectors(self, x, positions):
        """RoPE, Hadamard and e4m3 of index queries or keys x [T, ..., 128] (bf16): values and scale per vector."""
        rope = self.c["qk_rope_head_dim"]
        interleaved = self.c.get("indexer_rope_interleave", False) != (self.mutant == "interleaved_indexer_rope")
        if self.mutant == "wrong_rope_half":
            x = np.concatenate([x[..., :-rope], to_bf16(self.rotate(x[..., -rope:], positions, interleaved))], -1)
        else:
            x = np.concatenate([to_bf16(self.rotate(x[..., :rope], positions, interleaved)), x[..., rope:]], -1)
        if self.mutant != "no_hadamard":
            x = to_bf16(self.sum(x @ self.hadamard))
        values, scale = rounding.quantise_rows(x, self.scale_of)
        return values, scale[..., 0]

    def index_scores(self, prefix, h, c_q, positions):
        """[T, T]; only entries s <= t mean anything."""
        heads, dim = self.c["index_n_heads"], self.c["index_head_dim"]
        q = to_bf16(self.linear(c_q, prefix + "wq_b.weight")).reshape(len(h), heads, dim)
        k = to_bf16(self.linear(h, prefix + "wk.weight"))
        centered = k - k.mean(-1, keepdims=True)
        k = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6) * self.w[prefix + "k_norm.weight"]
        if self.mutant != "no_norm_bias":
            k = k + self.w[prefix + "k_norm.bias"]
        k = to_bf16(self.sum(k))
        gate = self.linear(h, prefix + "weights_proj.weight")
        if self.mutant == "bf16_gate":
            gate = to_bf16(gate)
        q, q_scale = self.index_vectors(q, positions)
        k, k_scale = self.index_vectors(k, positions)
        gate = gate * heads**-0.5 * dim**-0.5 * q_scale
        scores = np.zeros((len(h), len(h)))
        for i in range(heads):
            scores += gate[:, i, None] * np.maximum(0.0, q[:, i] @ k.T)
        return self.sum(scores * k_scale)

    def attention(self, prefix, h, positions, forced):
        """h = input_layernorm's output [T, d]. Returns (W_o's output, scores [T, T], selected [T, k] with -1)."""
        c = self.c
        heads, nope, rope = c["num_attention_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"]
        latent, value, rows = c["kv_lora_rank"], c["v_head_dim"], len(h)
        c_q = self.rms_norm(to_bf16(self.linear(h, prefix + "q_a_proj.weight")), prefix + "q_a_layernorm.weight")
        q = to_bf16(self.linear(c_q, prefix + "q_b_proj.weight")).reshape(rows, heads, nope + rope)
        kv = to_bf16(self.linear(h, prefix + "kv_a_proj_with_mqa.weight"))

        key = self.rms_norm(kv[:, :latent], prefix + "kv_a_layernorm.weight")
        if self.mutant != "no_latent_quantisation":
            key = rounding.dequantised_rows(key, self.scale_of)
        key_pe = to_bf16(self.rotate(kv[:, latent:], positions, True))
        up = to_bf16(self.w[prefix + "kv_b_proj.weight"]).reshape(heads, nope + value, latent)
        q_latent = to_bf16(self.sum(np.einsum("thn,hnl->thl", q[..., :nope], up[:, :nope], optimize=True)))
        q_pe = to_bf16(self.rotate(q[..., nope:], positions, True))

        scores = self.index_scores(prefix + "indexer.", h, c_q, positions)
        selected = select(scores, c["index_topk"])
        used = selected if forced is None else forced
        o_latent = np.empty((rows, heads, latent))
        for t in range(rows):
            keys = used[t][used[t] >= 0]
            if self.mutant == "one_key_fewer" and t + 1 > c["index_topk"]:
                keys = np.delete(keys, scores[t][keys].argmin())
            s = self.softmax_scale * self.sum(q_latent[t] @ key[keys].T + q_pe[t] @ key_pe[keys].T)
            p = np.exp(s - s.max(-1, keepdims=True))
            o_latent[t] = (p / p.sum(-1, keepdims=True)) @ key[keys]
        o_latent = to_bf16(self.sum(o_latent))
        o = to_bf16(self.sum(np.einsum("thl,hvl->thv", o_latent, up[:, nope:], optimize=True)))
        return to_bf16(self.linear(o.reshape(rows, -1), prefix + "o_proj.weight")), scores, selected

    # ---- feed-forward ----

    def mlp(self, prefix, x):
        gate = to_bf16(self.linear(x, prefix + "gate_proj.weight"))
        up = to_bf16(self.linear(x, prefix + "up_proj.weight"))
        return to_bf16(self.linear(to_bf16(self.sum(gate / (1 + np.exp(-gate)) * up)), prefix + "down_proj.weight"))

    def route(self, prefix, x):
        """Dense [T, experts] weights, 0 where an expert was not chosen; keeps how clear the choices were."""
        c, rows = self.c, len(x)
        p = 1 / (1 + np.exp(-self.linear(x, prefix + "gate.weight")))
        choice = p + self.w[prefix + "gate.e_score_correction_bias"]
        groups = choice.reshape(rows, c["n_group"], -1)
        if c["n_group"] > 1:
            best_two = np.sort(groups, -1)[..., -2:].sum(-1)
            kept = np.argsort(-best_two, -1, kind="stable")[:, :c["topk_group"]]
            mask = np.zeros((rows, c["n_group"]), bool)
            np.put_along_axis(mask, kept, True, -1)
            groups = np.where(mask[..., None], groups, -np.inf)
            ordered = -np.sort(-best_two, -1)
            self.note_margin(ordered[:, c["topk_group"] - 1] - ordered[:, c["topk_group"]])
        ordered = -np.sort(-groups.reshape(rows, -1), -1)
        self.note_margin(ordered[:, c["num_experts_per_tok"] - 1] - ordered[:, c["num_experts_per_tok"]])
        ids = np.argsort(-groups.reshape(rows, -1), -1, kind="stable")[:, :c["num_experts_per_tok"]]
        chosen = np.take_along_axis(p, ids, -1)
        if c["norm_topk_prob"]:
            chosen = chosen / (chosen.sum(-1, keepdims=True) + 1e-20)
        weights = np.zeros_like(p)
        np.put_along_axis(weights, ids, to_f32(chosen * c["routed_scaling_factor"]), -1)
        return weights

    def note_margin(self, margin):
        self.router_margin = np.minimum(self.router_margin, margin)

    def moe(self, prefix, x):
        experts = self.c["n_routed_experts"]
        leaves = min(16, experts)
        node_round = (lambda v: v) if self.mutant == "unrounded_tree" else to_bf16
        weights = self.route(prefix, x)
        nodes = []  # (value [T, d], present [T])
        for leaf in range(leaves):
            total, present = np.zeros_like(x), np.zeros(len(x), bool)
            for e in range(leaf * experts // leaves, (leaf + 1) * experts // leaves):
                rows = np.nonzero(weights[:, e])[0]
                total[rows] += weights[rows, e, None] * self.mlp(f"{prefix}experts.{e}.", x[rows])
                present[rows] = True
            nodes.append((node_round(self.sum(total)), present))
        while len(nodes) > 1:
            joined = [(node_round(a + b), pa | pb) for (a, pa), (b, pb) in zip(nodes[0::2], nodes[1::2])]
            nodes = joined + ([nodes[-1]] if len(nodes) % 2 else [])
        return to_bf16(nodes[0][0] + self.mlp(prefix + "shared_experts.", x))

    # ---- model ----

    def forward(self, tokens, forced=None):
        """Logits [T, V], per layer scores [T, T] and selected [T, k]. forced: selections to use, per layer.

        Afterwards router_margin [T] is the smallest gap of a row's expert choices, in units of the sigmoid.
        """
        self.router_margin = np.full(len(tokens), np.inf)
        c, positions = self.c, np.arange(len(tokens))
        x = self.w["model.embed_tokens.weight"][tokens]
        scores, selections = [], []
        for layer in range(c["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            h = self.rms_norm(x, prefix + "input_layernorm.weight")
            attention, layer_scores, selected = self.attention(prefix + "self_attn.", h, positions,
                                                               None if forced is None else forced[layer])
            scores.append(layer_scores)
            selections.append(selected)
            x = to_bf16(x + attention)
            h = self.rms_norm(x, prefix + "post_attention_layernorm.weight")
            x = to_bf16(x + (self.mlp if layer < c["first_k_dense_replace"] else self.moe)(prefix + "mlp.", h))
        h = self.rms_norm(x, "model.norm.weight")
        return self.linear(h, "lm_head.weight"), scores, selections


def select(scores, k):
    """[T, k]: the k largest scores of each row's visible keys, lowest position first among equals; ascending, -1."""
    selected = np.full((len(scores), k), -1, np.int64)
    for t in range(len(scores)):
        visible = scores[t, :t + 1]
        chosen = np.sort(np.argsort(-visible, kind="stable")[:k])
        selected[t, :len(chosen)] = chosen
    return selected
