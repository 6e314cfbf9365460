#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "tensor/dtype.h"

namespace sluice::checkpoint {

// What a tensor is decides its dtypes and how a checkpoint maker fills it.
enum class TensorKind : uint8_t {
  kLinear,      // [out, in]; FP8 iff its weight_scale_inv exists
  kKeptLinear,  // [out, in]; never FP8: router gate, indexer.weights_proj, lm_head, eh_proj
  kEmbedding,   // [vocab, hidden]
  kNorm,        // [width], around 1
  kNormBias,    // [width], around 0
  kRouterBias,  // e_score_correction_bias, [experts]
};

// A tensor that a config calls for.
struct TensorSpec {
  std::string name;
  TensorKind kind = TensorKind::kLinear;
  std::vector<int64_t> shape;
};

inline constexpr int64_t kScaleBlock = 128;  // an FP8 scale covers 128 x 128 weights
inline constexpr const char* kScaleSuffix = "_scale_inv";

inline std::string ScaleName(const std::string& weight) { return weight + kScaleSuffix; }
// Whether the name is that of an FP8 scale.
bool IsScaleName(const std::string& name);
// [ceil(out / 128), ceil(in / 128)].
std::vector<int64_t> ScaleShape(const std::vector<int64_t>& shape);

// F32, BF16 and F16 for every tensor; F8_E4M3 for kLinear alone.
bool MayHaveDType(TensorKind kind, DType dtype);

// The part of a model that one rank holds. Dense MLPs, shared experts, routers and everything of attention
// belong to a layer whole; routed experts [expert_begin, expert_end) of each of its layers.
struct ModelPart {
  int64_t layer_begin = 0;
  int64_t layer_end = 0;
  int64_t expert_begin = 0;
  int64_t expert_end = 0;
  bool embedding = false;  // model.embed_tokens
  bool head = false;       // model.norm and lm_head
};

// The whole model without nextn layers.
ModelPart WholeModel(const ModelConfig& config);

// The tensors of a part, in the order of the forward pass (weight_scale_inv tensors are not listed).
std::vector<TensorSpec> TensorsOf(const ModelConfig& config, const ModelPart& part);

// The tensors that nextn (MTP) layers may have: layers num_hidden_layers, ... of which there are
// num_nextn_predict_layers; with routed experts [expert_begin, expert_end), or all. Each is optional in a
// checkpoint.
std::vector<TensorSpec> NextnTensors(const ModelConfig& config, int64_t expert_begin, int64_t expert_end);
std::vector<TensorSpec> NextnTensors(const ModelConfig& config);

// "model.layers.N."
std::string LayerPrefix(int64_t layer);

}  // namespace sluice::checkpoint
