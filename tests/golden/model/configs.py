"""The random models of the golden vectors. Seeds were written down before the first run and stay as they are.

Every model keeps the widths production kernels depend on (kv_lora_rank 512, rope 64, index_head_dim 128) and has
index_topk 64 with contexts of more than 12 x 64 tokens. Index heads are 16 or more: a score is exactly zero when
every head's ReLU is, and with few heads such ties would be common.
"""

INDEX_TOPK = 64
GREEDY_TOKENS = 64

_COMMON = dict(
    architectures=["DeepseekV32ForCausalLM"],
    model_type="deepseek_v32",
    hidden_act="silu",
    attention_bias=False,
    tie_word_embeddings=False,
    moe_layer_freq=1,
    scoring_func="sigmoid",
    topk_method="noaux_tc",
    num_nextn_predict_layers=0,
    rms_norm_eps=1e-6,
    kv_lora_rank=512,
    qk_rope_head_dim=64,
    index_head_dim=128,
    index_topk=INDEX_TOPK,
    max_position_embeddings=4096,
    bos_token_id=0,
    eos_token_id=1,
)


def _yarn(factor, original, mscale):
    return dict(type="yarn", factor=factor, original_max_position_embeddings=original, beta_fast=32, beta_slow=1,
                mscale=mscale, mscale_all_dim=mscale)


def _config(**fields):
    config = dict(_COMMON, **fields)
    config["num_key_value_heads"] = config["num_attention_heads"]
    return config


def _glm(theta, **fields):
    config = dict(_config(**fields), architectures=["GlmMoeDsaForCausalLM"], model_type="glm_moe_dsa", n_group=1,
                  topk_group=1, qk_nope_head_dim=192, v_head_dim=256, indexer_rope_interleave=True,
                  rope_parameters=dict(rope_type="default", rope_theta=theta))
    return config


def full_layers(config):
    """The layers that have an indexer."""
    types = config.get("indexer_types", ["full"] * config["num_hidden_layers"])
    return [layer for layer, kind in enumerate(types) if kind == "full"]


# name -> dict(seed, prompt_tokens, config). "exact": fp32 checkpoints, compared with Transformers in float64.
EXACT = {
    # YaRN as in DeepSeek-V3.2, but past its original length from token 64 on; groups of experts; one dense layer.
    "yarn40": dict(seed=20261, prompt_tokens=784, dtype="float32", config=_config(
        vocab_size=512, hidden_size=256, num_hidden_layers=4, first_k_dense_replace=1, intermediate_size=384,
        moe_intermediate_size=128, n_routed_experts=16, n_shared_experts=1, num_experts_per_tok=4, n_group=4,
        topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True, num_attention_heads=8, q_lora_rank=128,
        qk_nope_head_dim=128, v_head_dim=128, index_n_heads=16, rope_theta=10000.0,
        rope_scaling=_yarn(40.0, 64, 1.0))),
    # Plain rotary positions, one group, two dense layers, a hidden size that is no power of two.
    "plain": dict(seed=20262, prompt_tokens=800, dtype="float32", config=_config(
        vocab_size=640, hidden_size=384, num_hidden_layers=4, first_k_dense_replace=2, intermediate_size=512,
        moe_intermediate_size=128, n_routed_experts=12, n_shared_experts=1, num_experts_per_tok=3, n_group=1,
        topk_group=1, routed_scaling_factor=2.5, norm_topk_prob=True, num_attention_heads=4, q_lora_rank=256,
        qk_nope_head_dim=128, v_head_dim=128, index_n_heads=32, rope_theta=10000.0, rope_scaling=None)),
    # Three dense layers of five, production's eight groups and 64 index heads, another YaRN.
    "groups8": dict(seed=20263, prompt_tokens=772, dtype="float32", config=_config(
        vocab_size=512, hidden_size=256, num_hidden_layers=5, first_k_dense_replace=3, intermediate_size=256,
        moe_intermediate_size=64, n_routed_experts=32, n_shared_experts=1, num_experts_per_tok=8, n_group=8,
        topk_group=4, routed_scaling_factor=2.5, norm_topk_prob=True, num_attention_heads=16, q_lora_rank=192,
        qk_nope_head_dim=128, v_head_dim=128, index_n_heads=64, rope_theta=10000.0,
        rope_scaling=_yarn(8.0, 128, 0.707))),
    # GLM-like head widths, two shared experts' width, unnormalised expert weights, a large theta.
    "wide_heads": dict(seed=20264, prompt_tokens=832, dtype="float32", config=_config(
        vocab_size=512, hidden_size=512, num_hidden_layers=3, first_k_dense_replace=1, intermediate_size=512,
        moe_intermediate_size=128, n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=2, n_group=2,
        topk_group=1, routed_scaling_factor=1.0, norm_topk_prob=False, num_attention_heads=4, q_lora_rank=256,
        qk_nope_head_dim=192, v_head_dim=256, index_n_heads=16, rope_theta=1000000.0, rope_scaling=None)),
    # GLM-5: its heads, 32 index heads whose neighbouring channels turn, no groups of experts. A real one has an eps of
    # 1e-5; these have 1e-6, since upstream's q_a_layernorm and kv_a_layernorm have that whatever a config says.
    "glm5": dict(seed=20265, prompt_tokens=784, dtype="float32", config=_glm(
        1000000.0, vocab_size=512, hidden_size=384, num_hidden_layers=3, first_k_dense_replace=1,
        intermediate_size=512, moe_intermediate_size=128, n_routed_experts=16, n_shared_experts=1,
        num_experts_per_tok=4, routed_scaling_factor=2.5, norm_topk_prob=True, num_attention_heads=16,
        q_lora_rank=256, index_n_heads=32)),
    # GLM-5.2: half of the layers attend to what one before them has selected.
    "glm52": dict(seed=20266, prompt_tokens=800, dtype="float32", config=_glm(
        8000000.0, vocab_size=512, hidden_size=256, num_hidden_layers=6, first_k_dense_replace=1,
        intermediate_size=384, moe_intermediate_size=128, n_routed_experts=12, n_shared_experts=1,
        num_experts_per_tok=3, routed_scaling_factor=2.5, norm_topk_prob=True, num_attention_heads=8,
        q_lora_rank=128, index_n_heads=32, indexer_types=["full", "full", "shared", "shared", "full", "shared"])),
}

_QUANTIZATION = dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic", weight_block_size=[128, 128],
                     scale_fmt="ue8m0")

# "fp8": block-FP8 checkpoints, compared with fp8_simulation.py. Most have one layer: see README.md, "Why one layer".
# embedding_gain: how much larger the residual stream is than what a layer adds to it.
FP8 = {
    "fp8_dense": dict(seed=20271, prompt_tokens=800, dtype="fp8", embedding_gain=16.0, config=_config(
        vocab_size=512, hidden_size=256, num_hidden_layers=1, first_k_dense_replace=1, intermediate_size=384,
        moe_intermediate_size=128, n_routed_experts=32, n_shared_experts=1, num_experts_per_tok=6, n_group=4,
        topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True, num_attention_heads=8, q_lora_rank=256,
        qk_nope_head_dim=128, v_head_dim=128, index_n_heads=32, rope_theta=10000.0,
        rope_scaling=_yarn(40.0, 64, 1.0), quantization_config=_QUANTIZATION)),
    "fp8_moe": dict(seed=20272, prompt_tokens=800, dtype="fp8", embedding_gain=16.0, config=_config(
        vocab_size=512, hidden_size=256, num_hidden_layers=1, first_k_dense_replace=0, intermediate_size=384,
        moe_intermediate_size=128, n_routed_experts=40, n_shared_experts=1, num_experts_per_tok=6, n_group=4,
        topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True, num_attention_heads=8, q_lora_rank=256,
        qk_nope_head_dim=128, v_head_dim=128, index_n_heads=16, rope_theta=10000.0,
        rope_scaling=_yarn(40.0, 64, 1.0), quantization_config=_QUANTIZATION)),
    "fp8_plain": dict(seed=20273, prompt_tokens=772, dtype="fp8", embedding_gain=16.0, config=_config(
        vocab_size=512, hidden_size=384, num_hidden_layers=1, first_k_dense_replace=0, intermediate_size=384,
        moe_intermediate_size=256, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2, n_group=1,
        topk_group=1, routed_scaling_factor=2.5, norm_topk_prob=True, num_attention_heads=4, q_lora_rank=128,
        qk_nope_head_dim=128, v_head_dim=128, index_n_heads=64, rope_theta=10000.0,
        rope_scaling=None, quantization_config=_QUANTIZATION)),
    "fp8_stack": dict(seed=20274, prompt_tokens=800, dtype="fp8", embedding_gain=64.0, config=_config(
        vocab_size=512, hidden_size=256, num_hidden_layers=2, first_k_dense_replace=1, intermediate_size=384,
        moe_intermediate_size=128, n_routed_experts=32, n_shared_experts=1, num_experts_per_tok=6, n_group=4,
        topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True, num_attention_heads=8, q_lora_rank=256,
        qk_nope_head_dim=128, v_head_dim=128, index_n_heads=32, rope_theta=10000.0,
        rope_scaling=_yarn(40.0, 64, 1.0), quantization_config=_QUANTIZATION)),
    # GLM-5: the rows of kv_b_proj of a head are three and a half scale blocks; eps as published.
    "fp8_glm": dict(seed=20275, prompt_tokens=800, dtype="fp8", embedding_gain=16.0, config=_glm(
        1000000.0, vocab_size=512, hidden_size=384, num_hidden_layers=1, first_k_dense_replace=0,
        intermediate_size=384, moe_intermediate_size=128, n_routed_experts=24, n_shared_experts=1,
        num_experts_per_tok=4, routed_scaling_factor=2.5, norm_topk_prob=True, num_attention_heads=5,
        q_lora_rank=256, index_n_heads=32, rms_norm_eps=1e-5, quantization_config=_QUANTIZATION)),
}


def for_transformers(config):
    """The keyword arguments of the configuration class for one of the configs above."""
    fields = {k: v for k, v in config.items() if k not in (
        "architectures", "model_type", "moe_layer_freq", "scoring_func", "topk_method", "num_nextn_predict_layers",
        "rope_theta", "rope_scaling", "quantization_config", "indexer_rope_interleave")}
    if "rope_parameters" in config:
        return fields
    scaling = config["rope_scaling"]
    if scaling is None:
        fields["rope_parameters"] = dict(rope_type="default", rope_theta=config["rope_theta"])
    else:
        fields["rope_parameters"] = dict({k: v for k, v in scaling.items() if k != "type"}, rope_type="yarn",
                                         rope_theta=config["rope_theta"])
    return fields
