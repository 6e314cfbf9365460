#include "model/weight_bytes.h"

#include "base/checked.h"
#include "checkpoint/tensor_map.h"
#include "model/expert_tree.h"

namespace sluice::model {
namespace {

constexpr int64_t kPanel = 32;  // outputs that are packed together

int64_t LinearBytes(int64_t rows, int64_t cols, int64_t element_bytes) {
  return CeilDiv(rows, kPanel) * kPanel * cols * element_bytes;
}

}  // namespace

int64_t WeightBytes(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics,
                    const StageSlice& slice) {
  const auto& config = checkpoint.config();
  const ExpertTree tree(config.n_routed_experts);
  const auto [first_leaf, end_leaf] = tree.Owned(slice.lane, slice.lanes);
  const auto [first_expert, end_expert] = tree.ExpertsOf(first_leaf, end_leaf);
  const checkpoint::ModelPart part{slice.layers.begin, slice.layers.end, first_expert,
                                   end_expert,         slice.first,      slice.last};
  const VocabularyRange vocabulary = VocabularyOf(config.vocab_size, slice.lane, slice.lanes);
  const int64_t activation = SizeOf(ops::ActivationType(numerics));
  int64_t bytes = 0;
  for (const checkpoint::TensorSpec& tensor : checkpoint::TensorsOf(config, part)) {
    if (tensor.shape.size() == 1) {
      bytes += tensor.shape[0] * SizeOf(DType::kF32);
      continue;
    }
    const bool embedding = tensor.kind == checkpoint::TensorKind::kEmbedding;
    const bool by_vocabulary = embedding || tensor.name == "lm_head.weight";
    const int64_t rows = by_vocabulary ? vocabulary.end - vocabulary.begin : tensor.shape[0];
    const int64_t cols = tensor.shape[1];
    // kv_b_proj is absorbed, head by head, and so never kept as codes.
    const bool absorbed = tensor.name.ends_with("kv_b_proj.weight");
    const bool codes =
        numerics == ops::Numerics::kFp8 && !absorbed && checkpoint.Has(checkpoint::ScaleName(tensor.name));
    if (embedding) {
      bytes += rows * cols * activation;
    } else if (codes) {
      bytes += LinearBytes(rows, cols, 1) + CeilDiv(rows, checkpoint::kScaleBlock) *
                                                CeilDiv(cols, checkpoint::kScaleBlock) * SizeOf(DType::kF32);
    } else {
      bytes += LinearBytes(rows, cols, activation);
    }
  }
  return bytes;
}

}  // namespace sluice::model
