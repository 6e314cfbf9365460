#include "model/weight_bytes.h"

#include <string_view>

#include "base/checked.h"
#include "checkpoint/nextn.h"
#include "checkpoint/tensor_map.h"
#include "model/expert_tree.h"

namespace sluice::model {
namespace {

constexpr int64_t kPanel = 32;  // outputs that are packed together

int64_t PackedBytes(int64_t rows, int64_t cols, int64_t element_bytes) {
  return CeilDiv(rows, kPanel) * kPanel * cols * element_bytes;
}

// Counts what one rank holds of each tensor of its part.
class WeightCounter {
 public:
  WeightCounter(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics, const StageSlice& slice,
          std::set<std::string>* counted)
      : checkpoint_(checkpoint),
        slice_(slice),
        counted_(counted),
        fp8_(numerics == ops::Numerics::kFp8),
        activation_(SizeOf(ops::ActivationType(numerics))),
        vocabulary_(VocabularyOf(checkpoint.config().vocab_size, slice.lane, slice.lanes)) {}

  int64_t Part(const checkpoint::ModelPart& part) const {
    return Tensors(checkpoint::TensorsOf(checkpoint_.config(), part));
  }

  int64_t Tensors(const std::vector<checkpoint::TensorSpec>& tensors) const {
    int64_t bytes = 0;
    for (const checkpoint::TensorSpec& tensor : tensors) {
      bytes += tensor.shape.size() == 1 ? tensor.shape[0] * SizeOf(DType::kF32) : Matrix(tensor);
    }
    return bytes;
  }

 private:
  struct Range {
    int64_t first_row, end_row, first_col, end_col;
  };

  int64_t Matrix(const checkpoint::TensorSpec& tensor) const {
    const Range part = PartOf(tensor);
    const int64_t rows = part.end_row - part.first_row;
    const int64_t cols = part.end_col - part.first_col;
    if (counted_ != nullptr && IsShared(tensor)) {
      const std::string key =
          WeightKey(tensor.name, part.first_row, part.end_row, part.first_col, part.end_col);
      if (!counted_->insert(key).second) return 0;
    }
    if (tensor.kind == checkpoint::TensorKind::kEmbedding) return rows * cols * activation_;
    // kv_b_proj is absorbed, head by head, and so never kept as codes.
    const bool absorbed = tensor.name.ends_with("kv_b_proj.weight");
    if (!fp8_ || absorbed || !checkpoint_.Has(checkpoint::ScaleName(tensor.name))) {
      return PackedBytes(rows, cols, activation_);
    }
    constexpr int64_t kBlock = checkpoint::kScaleBlock;
    return PackedBytes(rows, cols, 1) + CeilDiv(rows, kBlock) * CeilDiv(cols, kBlock) * SizeOf(DType::kF32);
  }

  static bool IsRoutedExpert(std::string_view name) { return name.find(".experts.") != name.npos; }
  static bool IsVocabulary(std::string_view name) {
    return name.ends_with("embed_tokens.weight") || name == "lm_head.weight" ||
           name.ends_with(".shared_head.head.weight");
  }

  // Lanes whose part is the same hold it once where they share a store (LoadStage).
  static bool IsShared(const checkpoint::TensorSpec& tensor) {
    return !IsRoutedExpert(tensor.name) && !IsVocabulary(tensor.name);
  }

  // What the rank holds of a matrix, whole or spread over lanes.
  Range PartOf(const checkpoint::TensorSpec& tensor) const {
    const std::string_view name = tensor.name;
    const int64_t rows = tensor.shape[0];
    const int64_t cols = tensor.shape[1];
    const int64_t shard = slice_.lane % slice_.attn_tp;
    if (IsVocabulary(name)) return {vocabulary_.begin, vocabulary_.end, 0, cols};
    if (name.ends_with(".q_b_proj.weight") || name.ends_with(".kv_b_proj.weight")) {
      const int64_t part = rows / slice_.attn_tp;
      return {shard * part, (shard + 1) * part, 0, cols};
    }
    if (name.ends_with(".o_proj.weight")) {
      const int64_t part = cols / slice_.attn_tp;
      return {0, rows, shard * part, (shard + 1) * part};
    }
    const bool dense = !IsRoutedExpert(name) && name.find(".shared_experts.") == name.npos;
    if (slice_.dense_tp && dense) {
      const auto [begin, end] = DenseCut(checkpoint_.config().intermediate_size, slice_.lane, slice_.lanes);
      if (name.ends_with(".gate_proj.weight") || name.ends_with(".up_proj.weight")) {
        return {begin, end, 0, cols};
      }
      if (name.ends_with(".down_proj.weight")) return {0, rows, begin, end};
    }
    return {0, rows, 0, cols};
  }

  const checkpoint::Checkpoint& checkpoint_;
  const StageSlice& slice_;
  std::set<std::string>* counted_;
  bool fp8_;
  int64_t activation_;
  VocabularyRange vocabulary_;
};

// [begin, end) of the routed experts that the slice has.
std::pair<int64_t, int64_t> ExpertsOf(const checkpoint::Checkpoint& checkpoint, const StageSlice& slice) {
  const ExpertTree tree(checkpoint.config().n_routed_experts, slice.expert_owners);
  const auto [first_leaf, end_leaf] = tree.Owned(slice.lane);
  return tree.ExpertsOf(first_leaf, end_leaf);
}

}  // namespace

int64_t WeightBytes(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics, const StageSlice& slice,
                    std::set<std::string>* counted) {
  const auto [first_expert, end_expert] = ExpertsOf(checkpoint, slice);
  const WeightCounter counter(checkpoint, numerics, slice, counted);
  int64_t bytes = counter.Part({0, 0, 0, 0, slice.first, slice.last});
  for (const parallel::LayerRange& range : slice.layers) {
    bytes += counter.Part({range.begin, range.end, first_expert, end_expert});
  }
  return bytes + NextnWeightBytes(checkpoint, numerics, slice, counted);
}

int64_t NextnWeightBytes(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics,
                         const StageSlice& slice, std::set<std::string>* counted) {
  if (!slice.nextn) return 0;
  const auto [first_expert, end_expert] = ExpertsOf(checkpoint, slice);
  return WeightCounter(checkpoint, numerics, slice, counted)
      .Tensors(checkpoint::PresentNextnTensors(checkpoint, first_expert, end_expert));
}

}  // namespace sluice::model
