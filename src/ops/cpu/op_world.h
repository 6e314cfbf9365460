#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "ops/ops.h"

// Test support: random inputs for every op of the contract, small but awkward (no size a multiple of a
// vector, a panel or a quantisation block), and one run of all ops over a range of the rows.
namespace sluice::ops {

class OpWorld {
 public:
  static constexpr int64_t kWidth = 300;    // inputs of the linears
  static constexpr int64_t kOutputs = 205;  // outputs of the linears
  static constexpr int64_t kContext = 1000;
  static constexpr int64_t kSequences = 2;
  static constexpr int64_t kSelected = 700;  // two partitions of attention
  static constexpr int64_t kExperts = 24;
  static constexpr int64_t kExpertOutputs = 37;

  explicit OpWorld(Numerics numerics, int64_t rows, uint64_t seed = 7, bool bf16_cache = false)
      : numerics_(numerics), bf16_cache_(bf16_cache), rows_(rows), rng_(seed) {
    const DType type = ActivationType(numerics);
    x_ = Random(type, rows, kWidth, 1.0F);
    up_ = Random(type, rows, kWidth, 1.0F);
    q_ = Random(type, rows, shape_.heads * shape_.query_width(), 1.0F);
    kv_ = Random(type, rows, shape_.latent_width(), 2.0F);
    o_latent_ = Random(type, rows, shape_.heads * shape_.latent, 1.0F);
    q_latent_ = Random(type, rows, shape_.heads * shape_.latent_width(), 0.7F);
    index_q_ = Random(type, rows, index_.heads * index_.dim, 1.0F);
    index_k_ = Random(type, rows, index_.dim, 1.0F);
    gate_logits_ = Random(DType::kF32, rows, index_.heads, 1.0F);
    router_logits_ = Random(DType::kF32, rows, kExperts, 2.0F);
    router_bias_ = Random(DType::kF32, 1, kExperts, 0.1F);
    logits_ = Random(DType::kF32, rows, 2500, 3.0F);
    table_ = Random(DType::kBF16, 50, kWidth, 1.0F);
    norm_ = Random(DType::kF32, 1, kWidth, 1.0F);
    bias_ = Random(DType::kF32, 1, kWidth, 0.1F);
    weight_ = Random(DType::kF32, kOutputs, kWidth, 0.1F);
    experts_ = Random(DType::kF32, kExperts * kExpertOutputs, kWidth, 0.1F);
    fp8_weight_ = Random(DType::kF8E4M3, kOutputs, kWidth, 0.0F);
    fp8_scales_ = Random(DType::kF32, 2, 3, 0.0F);
    for (int64_t i = 0; i < 6; ++i)
      fp8_scales_.view().At<float>(i / 3, i % 3) = std::ldexp(1.0F, -9 - int(i % 4));
    for (int64_t h = 0; h < shape_.heads; ++h) {
      up_keys_.push_back(Random(DType::kBF16, shape_.latent, shape_.nope, 0.2F));
      up_values_.push_back(Random(DType::kBF16, shape_.value, shape_.latent, 0.1F));
    }
    for (size_t i = 0; i < inv_freq_.size(); ++i) inv_freq_[i] = std::pow(0.4F, static_cast<float>(i));
    for (int64_t t = 0; t < rows; ++t) {
      const auto sequence = static_cast<int32_t>(t * kSequences / rows);
      const auto position = static_cast<int32_t>(t % 5 == 4 ? rng_() % 60 : kContext - 1 - rng_() % 300);
      places_.push_back({sequence, position});
      ids_.push_back(static_cast<int32_t>(100 + rng_() % 50));
      params_.push_back({t % 3 == 0 ? 0.0F : 0.8F, t % 2 == 0 ? 1.0F : 0.9F, t % 4 == 0 ? 40 : 0, rng_(), 3});
      LogitAdjust& adjust = adjusts_.emplace_back();
      if (t % 5 == 0) adjust = {1.25F, {1, 5}, {{2, 0.5F}, {3, -1.0F}}, {}};
      positions_.push_back(t);
      targets_.push_back(static_cast<int32_t>(t * 7));
    }
    FillCaches();
    FillSelection();
  }

  int64_t rows() const { return rows_; }

  // The outputs of every op for rows [first, first + count), by name. The caches are the same whatever the
  // range.
  std::map<std::string, OwnedTensor> Run(Ops& ops, int64_t first, int64_t count) {
    std::map<std::string, OwnedTensor> out;
    const DType type = ActivationType(numerics_);
    const auto rows_of = [&](const OwnedTensor& t) { return t.view().RowRange(first, count); };
    const auto result = [&](const std::string& name, DType dtype, int64_t cols) -> Tensor {
      return (out[name] = OwnedTensor(dtype, count, cols)).view();
    };
    const std::span places = std::span(places_).subspan(first, count);
    ops.Embed(table_, 100, std::span(ids_).subspan(first, count), result("embed", type, kWidth));
    const auto weight = ops.Pack({DType::kF32, kOutputs, kWidth, weight_.view().data, nullptr});
    const auto fp8_weight = ops.Pack({DType::kF8E4M3, kOutputs, kWidth, fp8_weight_.view().data,
                                      static_cast<const float*>(fp8_scales_.view().data)});
    ops.Linear(rows_of(x_), *weight, result("linear", type, kOutputs));
    ops.Linear(rows_of(x_), *weight, result("linear_f32", DType::kF32, kOutputs));
    ops.Linear(rows_of(x_), *fp8_weight, result("linear_fp8", type, kOutputs));
    ops.RmsNorm(rows_of(x_), norm_, 1e-6F, result("rms_norm", type, kWidth));
    ops.SwiGlu(rows_of(x_), rows_of(up_), result("swiglu", type, kWidth));
    const auto up_again = [&](const char* name) -> Tensor {
      const Tensor copy = result(name, type, kWidth);
      std::memcpy(copy.data, rows_of(up_).data, copy.bytes());
      return copy;
    };
    ops.Add(rows_of(x_), up_again("add"));
    const Tensor sum = up_again("add_rms_norm_sum");
    ops.AddRmsNorm(rows_of(x_), sum, norm_, 1e-6F, result("add_rms_norm", type, kWidth));
    if (numerics_ == Numerics::kFp8) {
      RunQuantized(ops, rows_of(x_), rows_of(up_), *fp8_weight, type, result);
    }
    const Tensor angles = result("angles", DType::kF32, 2 * std::ssize(inv_freq_));
    ops.RopeAngles(places, inv_freq_, angles);

    std::vector<RawMatrix> up_key;
    std::vector<RawMatrix> up_value;
    for (int64_t h = 0; h < shape_.heads; ++h) {
      up_key.push_back({DType::kBF16, shape_.latent, shape_.nope, up_keys_[h].view().data, nullptr});
      up_value.push_back({DType::kBF16, shape_.value, shape_.latent, up_values_[h].view().data, nullptr});
    }
    const auto up_keys = ops.PackGroup(up_key);
    const auto up_values = ops.PackGroup(up_value);
    ops.AbsorbQuery(shape_, rows_of(q_), *up_keys, angles,
                    result("absorb_query", type, shape_.heads * shape_.latent_width()));
    ops.ValueUp(shape_, rows_of(o_latent_), *up_values,
                result("value_up", type, shape_.heads * shape_.value));
    ops.LatentRows(shape_, rows_of(kv_), norm_, 1e-6F, angles,
                   result("latent_rows", DType::kU8, latent_bytes()));
    ops.SparseAttention(shape_, rows_of(q_latent_), {latents_.data(), format()}, places, pages_,
                        rows_of(selection_), 0.11F, result("attention", type, shape_.heads * shape_.latent));
    const Tensor queries =
        result("index_queries", numerics_ == Numerics::kExact ? DType::kF32 : DType::kF8E4M3,
               index_.heads * index_.dim);
    const Tensor gates = result("index_gates", DType::kF32, index_.heads);
    ops.IndexQueries(index_, rows_of(index_q_), rows_of(gate_logits_), angles, queries, gates);
    ops.IndexKeyRows(index_, rows_of(index_k_), norm_, bias_, angles,
                     result("index_rows", DType::kU8, index_bytes()));
    ops.SelectKeys(index_, queries, gates, {index_keys_.data(), format()}, places, pages_,
                   result("selected", DType::kI32, index_.top_k));

    const RouterShape router{kExperts, 4, 2, 5, true, 2.5F};
    const Tensor ids = result("route_ids", DType::kI32, router.top_k);
    const Tensor weights = result("route_weights", DType::kF32, router.top_k);
    ops.Route(router, rows_of(router_logits_), router_bias_, ids, weights);
    RunExperts(ops, rows_of(x_), {ids, weights}, result("expert_sums", type, kExpertOutputs),
               result("expert_sums_of_two_lanes", type, kExpertOutputs));
    std::vector<ExpertTerm> terms;
    std::vector<int64_t> offsets{0};
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t i = 0; i < t % 4; ++i)
        terms.push_back({static_cast<int32_t>(t), 0.3F + static_cast<float>(i)});
      offsets.push_back(std::ssize(terms));
    }
    if (first == 0) ops.SumTerms(rows_of(x_), terms, offsets, result("sum_terms", type, kWidth));
    const auto sampled =
        ops.Sample(rows_of(logits_), std::span(params_).subspan(first, count),
                   std::span(adjusts_).subspan(first, count), std::span(positions_).subspan(first, count));
    const auto scored = ops.Logprobs(rows_of(logits_), std::span(targets_).subspan(first, count), 2);
    const Tensor tokens = result("sampled", DType::kI32, 2);
    for (int64_t t = 0; t < count; ++t) {
      tokens.At<int32_t>(t, 0) = sampled[t].token;
      tokens.At<int32_t>(t, 1) = scored[t].top[1].token;
    }
    return out;
  }

 private:
  // Ops that make rows in both forms and in the quantised one alone, and an FP8 linear of either.
  template <typename Result>
  void RunQuantized(Ops& ops, const Tensor& x, const Tensor& up, const Weight& weight, DType type,
                    const Result& result) {
    const auto quantized = [&](const std::string& name) -> Tensor {
      return result(name, DType::kU8, QuantizedRowBytes(kWidth));
    };
    const auto made = [&](const std::string& name, const auto& make) {
      const Activation both(result(name + "_values", type, kWidth), quantized(name + "_quantized"));
      const Activation alone({}, quantized(name + "_quantized_alone"));
      make(both);
      make(alone);
      ops.Linear(both.values, weight, result("linear_of_" + name + "_values", type, kOutputs));
      ops.Linear(both, weight, result("linear_of_" + name + "_both", type, kOutputs));
      ops.Linear(alone, weight, result("linear_of_" + name + "_quantized", type, kOutputs));
    };
    made("rms_norm", [&](const Activation& y) { ops.RmsNorm(x, norm_, 1e-6F, y); });
    made("swiglu", [&](const Activation& y) { ops.SwiGlu(x, up, y); });
    made("add_rms_norm", [&](const Activation& y) {
      const OwnedTensor sum(type, x.rows, kWidth);
      std::memcpy(sum.view().data, up.data, up.bytes());
      ops.AddRmsNorm(x, sum, norm_, 1e-6F, y);
    });
  }

  // Every row through its experts: summed at once, and by two lanes that hold leaves [0, 7) and [7, 16),
  // whose subtrees are joined.
  static constexpr ExpertLeaves kLeaves{kExperts, kMostLeaves};
  void RunExperts(Ops& ops, const Tensor& x, const ExpertChoices& choices, const Tensor& sums,
                  const Tensor& of_two) {
    std::vector<Subtree> of_lane[2] = {{{0, 4}, {4, 6}, {6, 7}}, {{7, 8}, {8, 16}}};
    OwnedTensor nodes(sums.dtype, 5 * x.rows, kExpertOutputs);
    RunExperts(ops, x, choices, 0, kExperts, std::array{Subtree{0, 16}}, sums);
    RunExperts(ops, x, choices, 0, 10, of_lane[0], nodes.view().RowRange(0, 3 * x.rows));
    RunExperts(ops, x, choices, 10, 14, of_lane[1], nodes.view().RowRange(3 * x.rows, 2 * x.rows));
    std::vector<SubtreeRows> subtrees;
    for (int64_t s = 0; s < 3; ++s) subtrees.push_back({of_lane[0][s], s, 3});
    for (int64_t s = 0; s < 2; ++s) subtrees.push_back({of_lane[1][s], 3 * x.rows + s, 2});
    ops.JoinSubtrees(nodes, choices.ids, kLeaves, subtrees, of_two);
  }
  void RunExperts(Ops& ops, const Tensor& x, const ExpertChoices& choices, int64_t first, int64_t count,
                  std::span<const Subtree> subtrees, const Tensor& nodes) {
    std::vector<RawMatrix> raws;
    for (int64_t e = first; e < first + count; ++e) {
      raws.push_back({DType::kF32, kExpertOutputs, kWidth, experts_.view().Row<float>(e * kExpertOutputs)});
    }
    const auto group = ops.PackGroup(raws);
    const OwnedTensor rows(DType::kI32, 1, choices.ids.cols * x.rows);
    const OwnedTensor groups(DType::kI32, count, 3);
    const OwnedTensor pairs(DType::kI32, x.rows, choices.ids.cols);
    ops.PlanExperts(choices.ids, first, {rows, groups, pairs});
    const OwnedTensor in(x.dtype, rows.view().cols, x.cols);
    const OwnedTensor out(x.dtype, rows.view().cols, kExpertOutputs);
    ops.TakeRows(x, rows, in);
    ops.GroupedLinear(in, groups, *group, out);
    ops.SumExperts(out, pairs, choices, kLeaves, subtrees, nodes);
  }

  CacheFormat format() const {
    if (numerics_ == Numerics::kExact) return CacheFormat::kF32;
    return bf16_cache_ ? CacheFormat::kBf16 : CacheFormat::kFp8;
  }
  int64_t latent_bytes() const { return LatentRowBytes(format(), shape_.latent, shape_.rope); }
  int64_t index_bytes() const { return IndexRowBytes(format(), index_.dim); }

  // Normal numbers times `scale`; e4m3: random codes without NaN.
  OwnedTensor Random(DType dtype, int64_t rows, int64_t cols, float scale) {
    OwnedTensor tensor(dtype, rows, cols);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < rows * cols; ++i) {
      if (dtype == DType::kF8E4M3) {
        const auto code = static_cast<uint8_t>(rng_());
        tensor.view().At<uint8_t>(0, i) = (code & 0x7f) == 0x7f ? uint8_t{0x35} : code;
      } else {
        StoreFloat(tensor, i / cols, i % cols, scale * normal(rng_));
      }
    }
    return tensor;
  }

  // Caches are filled with random values in their own format, pages in a shuffled order.
  void FillCaches() {
    constexpr int64_t kPages = (kContext + kPageTokens - 1) / kPageTokens;
    std::vector<int32_t> order(kPages * kSequences);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), rng_);
    tables_.assign(kSequences, {});
    for (int64_t i = 0; i < std::ssize(order); ++i) tables_[i % kSequences].push_back(order[i]);
    for (const auto& table : tables_) pages_.emplace_back(table);
    latents_ = Buffer(std::ssize(order) * kPageTokens * latent_bytes());
    index_keys_ = Buffer(std::ssize(order) * kPageTokens * index_bytes());
    std::normal_distribution<float> normal;
    if (numerics_ == Numerics::kExact) {
      for (int64_t i = 0; i < latents_.bytes() / 4; ++i)
        reinterpret_cast<float*>(latents_.data())[i] = normal(rng_);
      for (int64_t i = 0; i < index_keys_.bytes() / 4; ++i) {
        reinterpret_cast<float*>(index_keys_.data())[i] = normal(rng_);
      }
      return;
    }
    const auto code = [&] { return std::byte{ToF8E4M3(60.0F * normal(rng_)).bits}; };
    const auto put_scale = [&](std::byte* at, int exponent) {
      const float scale = std::ldexp(1.0F, exponent + static_cast<int>(rng_() % 3));
      std::memcpy(at, &scale, 4);
    };
    for (int64_t row = 0; row < std::ssize(order) * kPageTokens; ++row) {
      std::byte* at = latents_.data() + row * latent_bytes();
      if (!bf16_cache_) {
        for (int64_t i = 0; i < shape_.latent; ++i) *at++ = code();
        for (int64_t i = 0; i < shape_.latent; i += kQuantBlock, at += 4) put_scale(at, -7);
      }
      for (int64_t i = bf16_cache_ ? -shape_.latent : 0; i < shape_.rope; ++i, at += 2) {
        const BF16 value = ToBF16(normal(rng_));
        std::memcpy(at, &value, 2);
      }
    }
    for (int64_t page = 0; page < std::ssize(order); ++page) {
      std::byte* at = index_keys_.data() + page * kPageTokens * index_bytes();
      for (int64_t i = 0; i < kPageTokens * index_.dim; ++i) *at++ = code();
      for (int64_t i = 0; i < kPageTokens; ++i, at += 4) put_scale(at, -7);
    }
  }

  // Row 1 selects nothing, every fifth row few keys, the others kSelected of those they see.
  void FillSelection() {
    selection_ = OwnedTensor(DType::kI32, rows_, kSelected);
    for (int64_t t = 0; t < rows_; ++t) {
      auto* row = selection_.view().Row<int32_t>(t);
      std::fill(row, row + kSelected, -1);
      std::vector<int32_t> visible(places_[t].position + 1);
      std::iota(visible.begin(), visible.end(), 0);
      if (t != 1) std::sample(visible.begin(), visible.end(), row, kSelected, rng_);
    }
  }

  const AttentionShape shape_{5, 24, 16, 168, 40};
  const IndexerShape index_{14, 64, 16, 70, false};
  Numerics numerics_;
  bool bf16_cache_;  // in kFp8
  int64_t rows_;
  std::mt19937_64 rng_;
  OwnedTensor x_, up_, q_, kv_, o_latent_, q_latent_, index_q_, index_k_, gate_logits_, router_logits_,
      router_bias_;
  OwnedTensor logits_, table_, norm_, bias_, weight_, experts_, fp8_weight_, fp8_scales_, selection_;
  std::vector<OwnedTensor> up_keys_, up_values_;
  std::vector<float> inv_freq_ = std::vector<float>(8);
  std::vector<RowPlace> places_;
  std::vector<int32_t> ids_, targets_;
  std::vector<SamplingParams> params_;
  std::vector<LogitAdjust> adjusts_;
  std::vector<int64_t> positions_;
  std::vector<std::vector<int32_t>> tables_;
  std::vector<PageTable> pages_;
  Buffer latents_, index_keys_;
};

}  // namespace sluice::ops
