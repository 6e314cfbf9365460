#include "model/activation_bytes.h"

#include <algorithm>

#include "base/checked.h"
#include "model/expert_tree.h"
#include "model/moe.h"
#include "model/shapes.h"
#include "model/vocabulary.h"

namespace sluice::model {
namespace {

// Rows of a MoE layer on one lane at worst, as Moe (moe.h) exchanges them.
struct MoeRows {
  int64_t sent = 0;     // copies of the lane's rows, one for each owner; none where slots are fixed
  int64_t arrived = 0;  // rows of the step that chose an expert of this lane
  int64_t pairs = 0;    // of such a row and such an expert
  int64_t experts = 0;  // of this lane
  int64_t nodes = 0;    // of the sums of this lane's experts
  int64_t returned = 0;
  int64_t joined = 0;  // nodes of the sums of the lane's rows
};

// Of passes of `all` rows, `mine` of them this lane's.
MoeRows MoeRowsOf(const checkpoint::ModelConfig& config, const StageSlice& slice, int64_t all, int64_t mine) {
  const ExpertTree tree(config.n_routed_experts, slice.expert_owners);
  const int64_t top_k = config.num_experts_per_tok;
  const auto most = [&](int64_t there) { return std::min(top_k, there); };
  const auto [first_leaf, end_leaf] = tree.Owned(slice.lane);
  const auto [first_expert, end_expert] = tree.ExpertsOf(first_leaf, end_leaf);
  const int64_t own_subtrees = std::ssize(tree.Subtrees(first_leaf, end_leaf));
  int64_t subtrees = 0;  // of all owners
  for (int lane = 0; lane < slice.lanes; ++lane) {
    const auto [first, end] = tree.Owned(lane);
    subtrees += std::ssize(tree.Subtrees(first, end));
  }
  const bool fixed = slice.lanes > 1 && all <= Moe::kFewRows;
  const bool planned = slice.lanes > 1 && !fixed;
  MoeRows rows;
  if (planned) rows.sent = mine * most(slice.expert_owners);
  if (planned) rows.joined = mine * (2 * most(subtrees) - 1);
  if (fixed) rows.joined = mine * subtrees;
  if (end_expert == first_expert) return rows;
  rows.arrived = all;
  rows.experts = end_expert - first_expert;
  rows.pairs = rows.arrived * most(rows.experts);
  rows.nodes = rows.arrived * own_subtrees;
  if (planned) rows.returned = rows.arrived * most(own_subtrees);
  return rows;
}

// Adds up what Arena::Allocate takes for the tensors of each part of a pass.
class ActivationCounter {
 public:
  ActivationCounter(const checkpoint::ModelConfig& config, ops::Numerics numerics,
                    ops::CacheFormat cache_format, const StageSlice& slice, const PassLimits& limits)
      : c_(config),
        slice_(slice),
        type_(ops::ActivationType(numerics)),
        query_type_(numerics == ops::Numerics::kExact ? DType::kF32 : DType::kF8E4M3),
        cache_(CacheShapeOf(config, cache_format)),
        all_(limits.step.rows),
        mine_(limits.rows),
        fp8_experts_(limits.fp8_experts),
        of_heads_(slice.attn_tp == 1 ? mine_ : std::min(all_, slice.attn_tp * mine_)) {}

  int64_t Embed() const {
    return slice_.lanes == 1 ? 0 : Rows(all_, c_.hidden_size) + Rows(mine_, c_.hidden_size);
  }

  // What stays while the layers run: angles and h.
  int64_t AroundLayers() const {
    int64_t bytes = Of(DType::kF32, mine_, c_.qk_rope_head_dim) + BothForms(mine_, c_.hidden_size);
    if (slice_.attn_tp > 1) bytes += Of(DType::kF32, of_heads_, c_.qk_rope_head_dim);
    return SharesSelections() ? bytes + Selection() : bytes;
  }

  int64_t Attention(bool has_indexer) const {
    const int64_t index_queries = c_.index_n_heads * c_.index_head_dim;
    const int64_t cache_row_bytes = cache_.token_bytes(1, has_indexer ? 1 : 0);
    int64_t bytes = BothForms(mine_, c_.q_lora_rank);             // query_low
    bytes += Rows(mine_, c_.kv_lora_rank + c_.qk_rope_head_dim);  // kv
    bytes += Of(DType::kU8, mine_, cache_row_bytes);              // my_rows
    if (slice_.lanes > 1) bytes += Of(DType::kU8, all_, cache_row_bytes);
    if (!SharesSelections()) bytes += Selection();
    int64_t index_scratch = 0;
    if (has_indexer) {
      bytes += Rows(mine_, c_.index_head_dim);                    // index_key
      bytes += Of(query_type_, mine_, index_queries);             // queries
      bytes += Of(DType::kF32, mine_, c_.index_n_heads);          // gates
      index_scratch += Rows(mine_, index_queries);                // index_query
      index_scratch += Of(DType::kF32, mine_, c_.index_n_heads);  // gate_logits
    }
    return bytes + std::max(index_scratch, Attend());
  }

  int64_t DenseMlp() const {
    if (!slice_.dense_tp) return Mlp(mine_, c_.intermediate_size, type_);
    const auto [begin, end] = DenseCut(c_.intermediate_size, slice_.lane, slice_.lanes);
    int64_t bytes = Mlp(all_, end - begin, DType::kF32) + SumOverRanks(slice_.lanes);
    if (slice_.lanes > 1) bytes += BothForms(all_, c_.hidden_size);
    return bytes;
  }

  // A pass of the most rows, or of as many as have fixed slots.
  int64_t Moe() const {
    const int64_t few = std::min(all_, model::Moe::kFewRows);
    return std::max(MoeOf(all_, mine_), MoeOf(few, std::min(few, mine_)));
  }

  int64_t Head() const {
    const int64_t slab = std::min(kSlabRows, all_);
    const VocabularyRange range = VocabularyOf(c_.vocab_size, slice_.lane, slice_.lanes);
    int64_t bytes = Rows(std::min(slab, mine_), c_.hidden_size);
    if (slice_.lanes > 1) bytes += 2 * Rows(slab, c_.hidden_size);
    bytes += Of(DType::kF32, slab, range.end - range.begin);
    if (slice_.lane > 0 || slice_.lanes == 1) return bytes;
    for (int lane = 0; lane < slice_.lanes; ++lane) {
      const VocabularyRange part = VocabularyOf(c_.vocab_size, lane, slice_.lanes);
      bytes += Of(DType::kF32, slab, part.end - part.begin);
    }
    return bytes + Of(DType::kF32, slab, c_.vocab_size);
  }

 private:
  // Then a selection lies around the layers, or where the rows are handed over.
  bool SharesSelections() const { return !c_.shares_selection.empty(); }
  int64_t Selection() const {
    const int64_t mine = Of(DType::kI32, mine_, c_.index_topk);
    return slice_.attn_tp > 1 ? mine + Of(DType::kI32, of_heads_, c_.index_topk) : mine;
  }
  int64_t Attend() const {
    const bool cut = slice_.attn_tp > 1;
    const int64_t heads = c_.num_attention_heads / slice_.attn_tp;
    int64_t bytes = cut ? EitherForm(of_heads_, c_.q_lora_rank) : 0;
    bytes += Rows(of_heads_, heads * (c_.kv_lora_rank + c_.qk_rope_head_dim));  // query_latent
    const int64_t query = Rows(of_heads_, heads * (c_.qk_nope_head_dim + c_.qk_rope_head_dim));
    int64_t behind = Rows(of_heads_, heads * c_.kv_lora_rank);           // out_latent
    behind += Rows(of_heads_, heads * c_.v_head_dim);                    // heads
    behind += Of(cut ? DType::kF32 : type_, of_heads_, c_.hidden_size);  // out
    if (cut) behind += SumOverRanks(slice_.attn_tp);
    return bytes + std::max(query, behind);
  }
  static int64_t Of(DType type, int64_t rows, int64_t cols) {
    return Arena::Taken(rows * cols * SizeOf(type));
  }
  int64_t Rows(int64_t rows, int64_t cols) const { return Of(type_, rows, cols); }
  // Rows for linears (ops::Activation).
  int64_t Quantized(int64_t rows, int64_t cols) const {
    return type_ == DType::kBF16 ? Of(DType::kU8, rows, ops::QuantizedRowBytes(cols)) : 0;
  }
  int64_t BothForms(int64_t rows, int64_t cols) const { return Rows(rows, cols) + Quantized(rows, cols); }
  int64_t EitherForm(int64_t rows, int64_t cols) const {
    return std::max(Rows(rows, cols), Quantized(rows, cols));
  }
  int64_t Mlp(int64_t rows, int64_t intermediate, DType out) const {
    return BothForms(rows, intermediate) + Rows(rows, intermediate) + Of(out, rows, c_.hidden_size);
  }
  int64_t MoeOf(int64_t all, int64_t mine) const {
    const MoeRows rows = MoeRowsOf(c_, slice_, all, mine);
    const bool travels = slice_.lanes > 1;
    int64_t bytes = Of(DType::kF32, mine, c_.n_routed_experts);  // logits
    bytes += Of(DType::kI32, mine, 2 * c_.num_experts_per_tok);  // choices
    if (travels) bytes += Of(DType::kI32, all, 2 * c_.num_experts_per_tok);
    // Rows travel, and are taken, in the form that the experts read.
    const auto for_experts = [&](int64_t count) {
      return fp8_experts_ ? Quantized(count, c_.hidden_size) : EitherForm(count, c_.hidden_size);
    };
    if (travels) bytes += for_experts(rows.sent) + for_experts(rows.arrived);
    if (travels) bytes += Of(DType::kI32, rows.arrived, 2 * c_.num_experts_per_tok);
    bytes += Of(DType::kI32, 1, rows.pairs) + Of(DType::kI32, rows.experts, 3);
    bytes += Of(DType::kI32, rows.arrived, c_.num_experts_per_tok);  // the plan
    bytes += Rows(rows.pairs, c_.hidden_size);                       // out
    bytes += 2 * Rows(rows.pairs, c_.moe_intermediate_size);         // gate, up
    bytes += std::max(for_experts(rows.pairs),                       // in, and then in its place
                      Quantized(rows.pairs, c_.moe_intermediate_size));
    bytes += Rows(rows.nodes, c_.hidden_size);         // nodes
    bytes += Rows(rows.returned, c_.hidden_size);      // those that travel
    bytes += Rows(rows.joined, c_.hidden_size);        // nodes of the lane's rows
    if (travels) bytes += Rows(mine, c_.hidden_size);  // out
    if (c_.n_shared_experts > 0) bytes += Mlp(mine, c_.n_shared_experts * c_.moe_intermediate_size, type_);
    return bytes;
  }
  int64_t SumOverRanks(int ranks) const {
    return Of(DType::kF32, ranks * mine_, c_.hidden_size) + Rows(mine_, c_.hidden_size);
  }

  const checkpoint::ModelConfig& c_;
  const StageSlice& slice_;
  const DType type_;
  const DType query_type_;
  const cache::CacheShape cache_;
  const int64_t all_;   // rows of the step
  const int64_t mine_;  // of the lane
  const bool fp8_experts_;
  const int64_t of_heads_;  // of its head group
};

// Which kinds of layers a rank has.
struct Kinds {
  bool dense = false;
  bool moe = false;
  bool indexer = false;
};
Kinds KindsOf(const checkpoint::ModelConfig& config, const StageSlice& slice) {
  Kinds kinds;
  for (const parallel::LayerRange& range : slice.layers) {
    for (int64_t layer = range.begin; layer < range.end; ++layer) {
      (config.IsDense(layer) ? kinds.dense : kinds.moe) = true;
      kinds.indexer = kinds.indexer || config.HasIndexer(layer);
    }
  }
  return kinds;
}

}  // namespace

PassLimits LargestPass(const step::StepLimits& step, int lanes, parallel::SplitMode mode) {
  return {step, parallel::MostRows(step.rows, lanes, mode)};
}

int64_t ActivationBytes(const checkpoint::ModelConfig& config, ops::Numerics numerics,
                        ops::CacheFormat cache_format, const StageSlice& slice, const PassLimits& limits) {
  const ActivationCounter counter(config, numerics, cache_format, slice, limits);
  const Kinds kinds = KindsOf(config, slice);
  int64_t layer = counter.Attention(kinds.indexer);
  if (kinds.dense) layer = std::max(layer, counter.DenseMlp());
  if (kinds.moe) layer = std::max(layer, counter.Moe());
  int64_t most = counter.AroundLayers() + layer;
  if (slice.first) most = std::max(most, counter.Embed());
  if (slice.last) most = std::max(most, counter.Head());
  return most;
}

ops::OpLimits OpLimitsOf(const checkpoint::ModelConfig& config, const StageSlice& slice,
                         const PassLimits& limits) {
  const Kinds kinds = KindsOf(config, slice);
  const MoeRows moe = kinds.moe ? MoeRowsOf(config, slice, limits.step.rows, limits.rows) : MoeRows{};
  const int64_t all = limits.step.rows;
  const int64_t mine = limits.rows;
  const int64_t of_heads = slice.attn_tp == 1 ? mine : std::min(all, slice.attn_tp * mine);
  ops::OpLimits most;
  most.places = all;
  most.sequences = limits.step.sequences;
  most.positions = limits.step.positions;
  most.list = std::max({all, slice.lanes * mine, moe.sent, moe.pairs, moe.nodes, moe.joined});
  const auto linear = [&](int64_t rows, int64_t inputs) {
    most.linear_inputs =
        std::max(most.linear_inputs, rows * CeilDiv(inputs, ops::kQuantBlock) * ops::kQuantBlock);
  };
  linear(mine, std::max(config.hidden_size, config.q_lora_rank));
  linear(of_heads,
         std::max(config.q_lora_rank, config.num_attention_heads / slice.attn_tp * config.v_head_dim));
  linear(std::min(kSlabRows, all), config.hidden_size);
  // What stands behind a SwiGLU gets rows that are quantised, and so do experts of FP8.
  if (kinds.dense && slice.dense_tp) linear(all, config.hidden_size);
  if (kinds.moe && !limits.fp8_experts) linear(moe.pairs, config.hidden_size);
  most.top_k = config.index_topk;
  most.experts = config.n_routed_experts;
  most.vocabulary = config.vocab_size;
  most.logits_rows = slice.last ? std::min(kSlabRows, all) : 0;
  return most;
}

}  // namespace sluice::model
