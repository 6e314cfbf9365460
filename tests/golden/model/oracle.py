"""Transformers' DeepseekV32ForCausalLM and GlmMoeDsaForCausalLM in float64 on generated weights, and what they selected."""

import importlib.util
import pathlib
import sys
import tempfile

import numpy as np
import torch
from transformers import DeepseekV32Config, GlmMoeDsaConfig
from transformers.models.deepseek_v32 import modeling_deepseek_v32
from transformers.models.glm_moe_dsa import modeling_glm_moe_dsa

import configs
import generator

# model_type -> configuration class, modeling file, class of the model
FAMILIES = {
    "deepseek_v32": (DeepseekV32Config, modeling_deepseek_v32, "DeepseekV32ForCausalLM"),
    "glm_moe_dsa": (GlmMoeDsaConfig, modeling_glm_moe_dsa, "GlmMoeDsaForCausalLM"),
}


def widened_modeling(model_type):
    """Upstream's modeling file with its fp32 islands computed in float64, rotary angles excepted.

    Upstream computes RMSNorm, softmax, index scores and the router in fp32 whatever the model's dtype. This copy is
    the control that says how much that matters; the vectors come from the unchanged file.
    """
    upstream = FAMILIES[model_type][1]
    lines = []
    for line in pathlib.Path(upstream.__file__).read_text().splitlines():
        if "inv_freq" not in line:
            line = line.replace("torch.float32", "torch.float64").replace(".float()", ".double()")
        lines.append(line)
    name = f"{upstream.__name__}_widened"
    path = pathlib.Path(tempfile.mkdtemp()) / f"modeling_{model_type}_widened.py"
    path.write_text("\n".join(lines) + "\n")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _load_weights(model, config, specs, seed):
    """Copies the checkpoint into the model: names are equal but for the fused experts; every tensor used once."""
    stored = {spec.name: generator.values(spec, seed) for spec in specs}
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    state = {name: tensor for name, tensor in state.items() if "inv_freq" not in name}
    width = config["moe_intermediate_size"]
    with torch.no_grad():
        for name, target in state.items():
            if ".experts." in name and name.endswith(("gate_up_proj", "down_proj")):
                prefix, part = name.rsplit(".", 1)
                for e in range(config["n_routed_experts"]):
                    if part == "down_proj":
                        target[e].copy_(torch.from_numpy(stored.pop(f"{prefix}.{e}.down_proj.weight")))
                    else:
                        target[e, :width].copy_(torch.from_numpy(stored.pop(f"{prefix}.{e}.gate_proj.weight")))
                        target[e, width:].copy_(torch.from_numpy(stored.pop(f"{prefix}.{e}.up_proj.weight")))
            else:
                value = torch.from_numpy(stored.pop(name))
                assert value.shape == target.shape, name
                target.copy_(value)
    assert not stored, f"tensors the model has no place for: {sorted(stored)[:3]}"


def build(fixture, specs, modeling=None):
    configuration, upstream, name = FAMILIES[fixture["config"]["model_type"]]
    modeling = modeling or upstream
    config = configuration(**configs.for_transformers(fixture["config"]))
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = getattr(modeling, name)(config).to(torch.float64).eval()
    _load_weights(model, fixture["config"], specs, fixture["seed"])
    rope = model.model.rotary_emb
    # Module.to(float64) widened the buffer; its values are upstream's fp32 ones.
    assert rope.attention_scaling == 1.0 and torch.equal(rope.inv_freq, rope.inv_freq.float().double())
    return model


def index_scores(indexer, hidden, q_resid, position_embeddings):
    """The scores [T, T] of the module's own inputs, in float64; -inf above the diagonal."""
    rows = hidden.shape[1]
    cos, sin = (t[0].double() for t in position_embeddings)
    rope, heads, dim = indexer.qk_rope_head_dim, indexer.n_heads, indexer.head_dim
    q = indexer.wq_b(q_resid)[0].view(rows, heads, dim)
    k = indexer.k_norm(indexer.wk(hidden))[0].view(rows, 1, dim)

    # The pairs that turn together: channels i and i + rope / 2, or (GLM) neighbours. Where the result lies does not
    # matter to a product.
    def rotated(x):
        if indexer.config.model_type == "glm_moe_dsa":
            first, second, rest = x[..., :rope:2], x[..., 1:rope:2], x[..., rope:]
        else:
            first, second, rest = x[..., :rope // 2], x[..., rope // 2:rope], x[..., rope:]
        c, s = cos[:, None, :rope // 2], sin[:, None, :rope // 2]
        return torch.cat([first * c - second * s, second * c + first * s, rest], dim=-1)

    q, k = rotated(q), rotated(k)[:, 0]
    gates = indexer.weights_proj(hidden)[0] * heads**-0.5 * dim**-0.5
    scores = torch.zeros(rows, rows, dtype=torch.float64)
    for h in range(heads):
        scores += gates[:, h, None] * torch.relu(q[:, h] @ k.T)
    return scores.masked_fill(torch.ones(rows, rows, dtype=torch.bool).triu(1), float("-inf"))


def _indices(selected, k):
    """bool [T, T] -> [1, T, k] positions, short rows filled with their first one (which changes no set)."""
    order = selected.to(torch.int8).sort(dim=1, descending=True, stable=True)[1][:, :k]
    valid = torch.arange(k)[None] < selected.sum(1, keepdim=True)
    return torch.where(valid, order, order[:, :1]).to(torch.int32)[None]


@torch.no_grad()
def run(model, tokens, forced=None):
    """Logits [T, V], per layer with an indexer the selected sets (bool [T, T]) and the float64 scores, and each
    router's margin.

    forced: bool [L, T, T], the sets that attention uses instead of the model's own choice (which is still returned).
    """
    selected, scores, router_margins = {}, {}, {}
    handles = []
    for i, layer in enumerate(model.model.layers):
        def on_indexer(module, args, kwargs, output, i=i):
            rows = output.shape[1]
            mask = torch.zeros(rows, rows, dtype=torch.bool).scatter(1, output[0].long(), True)
            selected[i] = mask.tril()
            scores[i] = index_scores(module, *args[:3])
            if forced is not None:
                return _indices(torch.from_numpy(forced[i]), output.shape[-1])
            return output
        if getattr(layer.self_attn, "indexer", None) is not None:
            handles.append(layer.self_attn.indexer.register_forward_hook(on_indexer, with_kwargs=True))
        if hasattr(layer.mlp, "gate"):
            def on_router(module, args, output, i=i):
                router_margins[i] = router_margin(module, output[0])
            handles.append(layer.mlp.gate.register_forward_hook(on_router))
    logits = model(torch.from_numpy(tokens).long()[None], use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    return logits, selected, scores, router_margins


def router_margin(router, logits):
    """Per row the smaller gap of the two choices of the router: groups kept, experts kept."""
    choice = logits.double().sigmoid() + router.e_score_correction_bias.double()
    groups = choice.view(len(choice), router.num_group, -1)
    margin = torch.full((len(choice),), float("inf"), dtype=torch.float64)
    if router.num_group > router.topk_group:
        best = groups.topk(2, dim=-1)[0].sum(-1).sort(-1, descending=True)[0]
        margin = best[:, router.topk_group - 1] - best[:, router.topk_group]
    kept = groups.topk(2, dim=-1)[0].sum(-1).topk(router.topk_group)[1]
    mask = torch.zeros(len(choice), router.num_group, dtype=torch.bool).scatter(1, kept, True)
    rest = groups.masked_fill(~mask[..., None], float("-inf")).flatten(1).sort(-1, descending=True)[0]
    if rest.shape[1] > router.top_k:
        margin = torch.minimum(margin, rest[:, router.top_k - 1] - rest[:, router.top_k])
    return margin


@torch.no_grad()
def greedy(model, prompt, count):
    """`count` tokens after the prompt, each the argmax, with the gap between the two largest logits."""
    tokens, gaps, cache = [], [], None
    step = torch.from_numpy(prompt).long()[None]
    for _ in range(count):
        out = model(step, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        best = out.logits[0, -1].topk(2)
        tokens.append(int(best.indices[0]))
        gaps.append(float(best.values[0] - best.values[1]))
        step = torch.tensor([[tokens[-1]]])
    return np.array(tokens, np.int32), np.array(gaps, np.float32)
