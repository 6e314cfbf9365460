#include "model/weight_bytes.h"

#include <string_view>

#include "base/checked.h"
#include "checkpoint/tensor_map.h"
#include "model/expert_tree.h"

namespace sluice::model {
namespace {

constexpr int64_t kPanel = 32;  // outputs that are packed together

int64_t PackedBytes(int64_t rows, int64_t cols, int64_t element_bytes) {
  return CeilDiv(rows, kPanel) * kPanel * cols * element_bytes;
}

// Counts what one rank holds of each tensor of its part.
class Counter {
 public:
  Counter(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics, const StageSlice& slice)
      : checkpoint_(checkpoint),
        slice_(slice),
        fp8_(numerics == ops::Numerics::kFp8),
        activation_(SizeOf(ops::ActivationType(numerics))),
        vocabulary_(VocabularyOf(checkpoint.config().vocab_size, slice.lane, slice.lanes)) {}

  int64_t Part(const checkpoint::ModelPart& part) const {
    int64_t bytes = 0;
    for (const checkpoint::TensorSpec& tensor : checkpoint::TensorsOf(checkpoint_.config(), part)) {
      bytes += tensor.shape.size() == 1 ? tensor.shape[0] * SizeOf(DType::kF32) : Matrix(tensor);
    }
    return bytes;
  }

 private:
  int64_t Matrix(const checkpoint::TensorSpec& tensor) const {
    int64_t rows = tensor.shape[0];
    int64_t cols = tensor.shape[1];
    Cut(tensor.name, rows, cols);
    if (tensor.kind == checkpoint::TensorKind::kEmbedding) return rows * cols * activation_;
    // kv_b_proj is absorbed, head by head, and so never kept as codes.
    const bool absorbed = tensor.name.ends_with("kv_b_proj.weight");
    if (!fp8_ || absorbed || !checkpoint_.Has(checkpoint::ScaleName(tensor.name))) {
      return PackedBytes(rows, cols, activation_);
    }
    constexpr int64_t kBlock = checkpoint::kScaleBlock;
    return PackedBytes(rows, cols, 1) + CeilDiv(rows, kBlock) * CeilDiv(cols, kBlock) * SizeOf(DType::kF32);
  }

  // What the rank holds of a matrix that is spread over lanes.
  void Cut(std::string_view name, int64_t& rows, int64_t& cols) const {
    if (name == "model.embed_tokens.weight" || name == "lm_head.weight") {
      rows = vocabulary_.end - vocabulary_.begin;
    } else if (name.ends_with(".q_b_proj.weight") || name.ends_with(".kv_b_proj.weight")) {
      rows /= slice_.attn_tp;
    } else if (name.ends_with(".o_proj.weight")) {
      cols /= slice_.attn_tp;
    } else if (slice_.dense_tp && name.find(".experts.") == name.npos &&
               name.find(".shared_experts.") == name.npos) {
      const auto [begin, end] = DenseCut(checkpoint_.config().intermediate_size, slice_.lane, slice_.lanes);
      if (name.ends_with(".gate_proj.weight") || name.ends_with(".up_proj.weight")) rows = end - begin;
      if (name.ends_with(".down_proj.weight")) cols = end - begin;
    }
  }

  const checkpoint::Checkpoint& checkpoint_;
  const StageSlice& slice_;
  bool fp8_;
  int64_t activation_;
  VocabularyRange vocabulary_;
};

}  // namespace

int64_t WeightBytes(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics,
                    const StageSlice& slice) {
  const ExpertTree tree(checkpoint.config().n_routed_experts, slice.expert_owners);
  const auto [first_leaf, end_leaf] = tree.Owned(slice.lane);
  const auto [first_expert, end_expert] = tree.ExpertsOf(first_leaf, end_leaf);
  const Counter counter(checkpoint, numerics, slice);
  int64_t bytes = counter.Part({0, 0, 0, 0, slice.first, slice.last});
  for (const parallel::LayerRange& range : slice.layers) {
    bytes += counter.Part({range.begin, range.end, first_expert, end_expert});
  }
  return bytes;
}

}  // namespace sluice::model
