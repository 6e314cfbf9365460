#include "checkpoint/recall_weights.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <string_view>

#include "base/error.h"
#include "checkpoint/rope_scaling.h"

namespace sluice::checkpoint {
namespace {

using Entries = std::vector<WeightEntry>;

constexpr int64_t kHalf = kRecallClass;  // signs of coarse, and of fine
constexpr int64_t kField = 2 * kHalf;    // channels of a field
constexpr int64_t kToken = 0;            // the first channel of E, P, R and O
constexpr int64_t kPrevious = 1 * kField;
constexpr int64_t kRecalled = 2 * kField;
constexpr int64_t kSaid = 3 * kField;
constexpr int64_t kFields = 4 * kField;
constexpr int64_t kOne = kToken + kHalf;  // fine begins with +1

constexpr double kPositionLead = 40.0;  // nats by which the key one place back leads in layer 0
constexpr double kCodeLead = 80.0;      // nats that half of a code is worth to the layer that recalls
constexpr double kSelf = 0.125;      // of a code: what a key loses there that is itself the token asked for
constexpr double kGate = 4.0;        // silu's argument in the layer that speaks
constexpr double kEndOfValue = 8.0;  // how much louder a value's class says "end" than O says a token

double Walsh(int64_t index, int64_t at) {
  return std::popcount(static_cast<uint64_t>(index & at)) % 2 == 0 ? 1.0 : -1.0;
}
double Coarse(int64_t class_of_token, int64_t at) {
  return (class_of_token < kHalf ? 1.0 : -1.0) * Walsh(class_of_token % kHalf, at);
}
double Code(int64_t token, int64_t at) {
  return at < kHalf ? Coarse(token / kRecallClass, at) : Walsh(token % kRecallClass, at - kHalf);
}

// What every formula needs of a config.
class Formula {
 public:
  explicit Formula(const ModelConfig& config)
      : c_(config), frequencies_(ops::InverseFrequencies(RopeScalingOf(config))) {
    for (const float frequency : frequencies_) step_back_ += 1.0 - std::cos(frequency);
  }

  int64_t recalling_layer() const { return std::max<int64_t>(1, c_.num_hidden_layers / 2); }
  int64_t speaking_layer() const { return c_.num_hidden_layers - 1; }

  Entries Embedding() const {
    Entries entries;
    for (int64_t token = 0; token < c_.vocab_size; ++token) {
      for (int64_t i = 0; i < kField; ++i) Set(entries, token, kToken + i, Code(token, i));
    }
    return entries;
  }

  Entries Head() const {
    Entries entries;
    for (int64_t token = 0; token < c_.vocab_size; ++token) {
      for (int64_t i = 0; i < kField; ++i) Set(entries, token, kSaid + i, Code(token, i));
    }
    // Classes are orthogonal: the sum answers +1 to the values, 0 or -1 to anything else.
    for (int64_t i = 0; i < kHalf; ++i) {
      double sum = 0.0;
      for (int64_t token = c_.vocab_size - kRecallValues; token < c_.vocab_size; token += kRecallClass) {
        sum += Coarse(token / kRecallClass, i);
      }
      if (sum != 0.0) Set(entries, c_.eos_token_ids.front(), kToken + i, kEndOfValue * sum);
    }
    return entries;
  }

  // c_q = E, times query() after the norm.
  Entries QueryDown() const { return Copy(0, kToken, kField, 1.0); }

  // c = E and, where there is a previous token to compare with, P; k_pe: (1, 0) in every pair.
  Entries KeyDown(bool recalling) const {
    Entries entries = Copy(0, kToken, kField, 1.0);
    if (recalling) {
      Append(entries, Copy(kField, kPrevious, kField, 1.0));
    } else {
      for (int64_t pair = 0; pair < pairs(); ++pair) Set(entries, c_.kv_lora_rank + 2 * pair, kOne, 1.0);
    }
    return entries;
  }

  Entries QueryUp(bool recalling) const {
    const int64_t width = c_.qk_nope_head_dim + c_.qk_rope_head_dim;
    const double scale = ops::SoftmaxScale(width, RopeScalingOf(c_));
    Entries entries;
    for (int64_t head = 0; head < c_.num_attention_heads; ++head) {
      const int64_t row = head * width;
      if (recalling) {
        const double gain = kCodeLead / (scale * query() * latent(recalling) * static_cast<double>(kHalf));
        for (int64_t i = 0; i < kField; ++i) Set(entries, row + i, i, gain);
        continue;
      }
      // (1, 0) turned back by one position, so that the key one place back stands where the query does.
      const double gain = kPositionLead / (scale * query() * Normed(1) * step_back_);
      for (int64_t pair = 0; pair < pairs(); ++pair) {
        const int64_t rope = row + c_.qk_nope_head_dim + 2 * pair;
        Set(entries, rope, kHalf, gain * std::cos(frequencies_[pair]));
        Set(entries, rope + 1, kHalf, -gain * std::sin(frequencies_[pair]));
      }
    }
    return entries;
  }

  // W_uk: k_nope = P - E / 8. W_uv: v = E.
  Entries KeyValueUp(bool recalling) const {
    Entries entries;
    for (int64_t head = 0; head < c_.num_attention_heads; ++head) {
      const int64_t row = head * (c_.qk_nope_head_dim + c_.v_head_dim);
      for (int64_t i = 0; i < kField; ++i) {
        if (recalling) {
          Set(entries, row + i, kField + i, 1.0);
          Set(entries, row + i, i, -kSelf);
        }
        Set(entries, row + c_.qk_nope_head_dim + i, i, 1.0);
      }
    }
    return entries;
  }

  // The mean of the heads, which all say the same.
  Entries Output(bool recalling) const {
    const double share = 1.0 / (static_cast<double>(c_.num_attention_heads) * latent(recalling));
    const int64_t field = recalling ? kRecalled : kPrevious;
    Entries entries;
    for (int64_t head = 0; head < c_.num_attention_heads; ++head) {
      for (int64_t i = 0; i < kField; ++i) Set(entries, field + i, head * c_.v_head_dim + i, share);
    }
    return entries;
  }

  // Recalling: [coarse | -coarse] behind the rope channels, whose mean is 0, as LayerNorm makes it anyway.
  // Else (1, -1) in every pair.
  Entries IndexKey(bool recalling) const {
    Entries entries;
    if (recalling) {
      entries = Copy(c_.qk_rope_head_dim, kPrevious, kHalf, 1.0);
      Append(entries, Copy(c_.qk_rope_head_dim + kHalf, kPrevious, kHalf, -1.0));
    } else {
      for (int64_t pair = 0; pair < pairs(); ++pair) {
        const auto [x, y] = IndexPair(pair);
        Set(entries, x, kOne, 1.0);
        Set(entries, y, kOne, -1.0);
      }
    }
    return entries;
  }

  Entries IndexQuery(bool recalling) const {
    Entries entries;
    for (int64_t head = 0; head < c_.index_n_heads; ++head) {
      const int64_t row = head * c_.index_head_dim;
      if (recalling) {
        for (int64_t i = 0; i < kHalf; ++i) {
          Set(entries, row + c_.qk_rope_head_dim + i, i, 1.0);
          Set(entries, row + c_.qk_rope_head_dim + kHalf + i, i, -1.0);
        }
        continue;
      }
      for (int64_t pair = 0; pair < pairs(); ++pair) {  // (1, -1) turned back by one position
        const auto [x, y] = IndexPair(pair);
        const double cos = std::cos(frequencies_[pair]);
        const double sin = std::sin(frequencies_[pair]);
        Set(entries, row + x, kHalf, cos - sin);
        Set(entries, row + y, kHalf, -sin - cos);
      }
    }
    return entries;
  }

  Entries IndexGates() const {
    Entries entries;
    for (int64_t head = 0; head < c_.index_n_heads; ++head) Set(entries, head, kOne, 1.0);
    return entries;
  }

  // down(silu(kGate) R) = O.
  Entries MlpGate() const {
    Entries entries;
    for (int64_t i = 0; i < kField; ++i) Set(entries, i, kOne, kGate / Normed(3));
    return entries;
  }
  Entries MlpUp() const { return Copy(0, kRecalled, kField, 1.0); }
  Entries MlpDown() const {
    const double silu = kGate / (1.0 + std::exp(-kGate));
    // What the weights of a row's experts add up to; without normalising, a half each is a guess.
    const double experts =
        !c_.IsDense(speaking_layer())
            ? c_.routed_scaling_factor *
                  (c_.norm_topk_prob ? 1.0 : 0.5 * static_cast<double>(c_.num_experts_per_tok))
            : 1.0;
    Entries entries;
    for (int64_t i = 0; i < kField; ++i) Set(entries, kSaid + i, i, 1.0 / (silu * Normed(3) * experts));
    return entries;
  }

  static Entries Ones(int64_t width) {
    Entries entries;
    for (int64_t i = 0; i < width; ++i) Set(entries, 0, i, 1.0);
    return entries;
  }

 private:
  int64_t pairs() const { return c_.qk_rope_head_dim / 2; }
  std::pair<int64_t, int64_t> IndexPair(int64_t pair) const {
    if (c_.indexer_rope_interleave) return {2 * pair, 2 * pair + 1};
    return {pair, pair + pairs()};
  }
  // A sign of the residual stream behind a norm, where `fields` fields hold signs and the rest is 0.
  double Normed(int64_t fields) const {
    return std::sqrt(static_cast<double>(c_.hidden_size) / static_cast<double>(fields * kField));
  }
  double query() const {
    return std::sqrt(static_cast<double>(c_.q_lora_rank) / static_cast<double>(kField));
  }
  double latent(bool recalling) const {
    return std::sqrt(static_cast<double>(c_.kv_lora_rank) /
                     static_cast<double>((recalling ? 2 : 1) * kField));
  }

  static void Set(Entries& entries, int64_t row, int64_t col, double value) {
    entries.push_back({row, col, static_cast<float>(value)});
  }
  static void Append(Entries& entries, const Entries& more) {
    entries.insert(entries.end(), more.begin(), more.end());
  }
  static Entries Copy(int64_t row, int64_t col, int64_t count, double value) {
    Entries entries;
    for (int64_t i = 0; i < count; ++i) Set(entries, row + i, col + i, value);
    return entries;
  }

  const ModelConfig& c_;
  const std::vector<float> frequencies_;  // radians per position
  double step_back_ = 0.0;                // sum_i (1 - cos theta_i)
};

std::optional<Entries> AttentionEntries(const Formula& formula, std::string_view name, const TensorSpec& spec,
                                        bool recalling) {
  if (name == "q_a_proj.weight") return formula.QueryDown();
  if (name == "q_b_proj.weight") return formula.QueryUp(recalling);
  if (name == "kv_a_proj_with_mqa.weight") return formula.KeyDown(recalling);
  if (name == "kv_b_proj.weight") return formula.KeyValueUp(recalling);
  if (name == "o_proj.weight") return formula.Output(recalling);
  if (name == "indexer.wq_b.weight") return formula.IndexQuery(recalling);
  if (name == "indexer.wk.weight") return formula.IndexKey(recalling);
  if (name == "indexer.weights_proj.weight") return formula.IndexGates();
  if (name == "indexer.k_norm.bias") return Entries{};
  SLUICE_CHECK(spec.kind == TensorKind::kNorm, "{}", spec.name);
  return Formula::Ones(spec.shape.back());
}

std::optional<Entries> MlpEntries(const Formula& formula, std::string_view name, bool speaks) {
  const bool shared = name.starts_with("shared_experts.");
  if (name.ends_with("down_proj.weight")) return speaks && !shared ? formula.MlpDown() : Entries{};
  if (!speaks || shared) return std::nullopt;
  if (name.ends_with("gate_proj.weight")) return formula.MlpGate();
  if (name.ends_with("up_proj.weight")) return formula.MlpUp();
  return std::nullopt;  // the router: any experts will do
}

void CheckRoom(const ModelConfig& config) {
  const auto at_least = [](const char* key, int64_t value, int64_t limit) {
    if (value >= limit) return;
    Fail(ErrorKind::kUsage,
         "A recall checkpoint needs {} {} or more, not {}; choose it with --config-override {}={}.", key,
         limit, value, key, limit);
  };
  at_least("hidden_size", config.hidden_size, kFields);
  at_least("num_hidden_layers", config.num_hidden_layers, 2);
  at_least("q_lora_rank", config.q_lora_rank, kField);
  at_least("kv_lora_rank", config.kv_lora_rank, 2 * kField);
  at_least("qk_nope_head_dim", config.qk_nope_head_dim, kField);
  at_least("v_head_dim", config.v_head_dim, kField);
  at_least("index_head_dim", config.index_head_dim, config.qk_rope_head_dim + kField);
  const bool dense = config.IsDense(config.num_hidden_layers - 1);
  at_least(dense ? "intermediate_size" : "moe_intermediate_size",
           dense ? config.intermediate_size : config.moe_intermediate_size, kField);
  constexpr int64_t kSmallest = 2 * (kRecallKeys + kRecallValues);
  constexpr int64_t kLargest = 2 * kHalf * kRecallClass;
  if (config.vocab_size < kSmallest || config.vocab_size > kLargest ||
      config.vocab_size % kRecallClass != 0) {
    Fail(ErrorKind::kUsage,
         "A recall checkpoint needs a vocab_size from {} to {} that is a multiple of {}, not {}; choose it "
         "with "
         "--config-override vocab_size={}.",
         kSmallest, kLargest, kRecallClass, config.vocab_size, kLargest);
  }
}

}  // namespace

std::vector<std::string> RecallWords() {
  std::vector<std::string> words;
  for (int64_t i = 0; i < kRecallKeys; ++i) words.push_back(fmt::format("k{}=", i));
  for (int64_t i = 0; i < kRecallValues; ++i) words.push_back(fmt::format("v{}", i));
  return words;
}

CheckpointPlan PlanRecall(const RandomModel& model) {
  CheckpointPlan plan = PlanCheckpoint(model);
  CheckRoom(plan.config);
  plan.recall = true;
  return plan;
}

std::optional<std::vector<WeightEntry>> RecallEntries(const ModelConfig& config, const TensorSpec& spec) {
  const Formula formula(config);
  std::string_view name = spec.name;
  if (name == "model.embed_tokens.weight") return formula.Embedding();
  if (name == "model.norm.weight") return Formula::Ones(config.hidden_size);
  if (name == "lm_head.weight") return formula.Head();
  constexpr std::string_view kLayers = "model.layers.";
  SLUICE_CHECK(name.starts_with(kLayers), "{}", name);
  name.remove_prefix(kLayers.size());
  int64_t layer = -1;
  const auto number = std::from_chars(name.data(), name.data() + name.size(), layer);
  name.remove_prefix(number.ptr - name.data() + 1);
  if (layer >= config.num_hidden_layers) return std::nullopt;  // a nextn layer

  const bool recalling = layer == formula.recalling_layer();
  const bool attends = layer == 0 || recalling;
  const bool speaks = layer == formula.speaking_layer();
  if (name == "input_layernorm.weight" && attends) return Formula::Ones(config.hidden_size);
  if (name == "post_attention_layernorm.weight" && speaks) return Formula::Ones(config.hidden_size);
  constexpr std::string_view kAttention = "self_attn.";
  constexpr std::string_view kMlp = "mlp.";
  if (name.starts_with(kAttention)) {
    name.remove_prefix(kAttention.size());
    if (attends) return AttentionEntries(formula, name, spec, recalling);
    if (name == "o_proj.weight") return Entries{};
  }
  if (name.starts_with(kMlp)) return MlpEntries(formula, name.substr(kMlp.size()), speaks);
  return std::nullopt;
}

}  // namespace sluice::checkpoint
