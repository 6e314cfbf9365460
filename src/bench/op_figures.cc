#include "bench/op_figures.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "base/clock.h"
#include "base/compute_pool.h"
#include "ops/cpu/cpu_ops.h"
#include "tensor/counter_random.h"

namespace sluice::bench {
namespace {

using ops::Numerics;

class OpBench {
 public:
  OpBench(const checkpoint::ModelConfig& config, Numerics numerics, const OpOptions& options)
      : config_(config),
        numerics_(numerics),
        options_(options),
        pool_(options.threads - 1),
        ops_(ops::MakeCpuOps(numerics, pool_)) {}

  OpFigures Run() {
    figures_.unit = WidestVectorUnit();
    figures_.threads = options_.threads;
    const auto& c = config_;
    const int64_t query = c.num_attention_heads * (c.qk_nope_head_dim + c.qk_rope_head_dim);
    Linear("q_a_proj", c.q_lora_rank, c.hidden_size);
    Linear("kv_a_proj", c.kv_lora_rank + c.qk_rope_head_dim, c.hidden_size);
    Linear("q_b_proj", query, c.q_lora_rank);
    Linear("o_proj", c.hidden_size, c.num_attention_heads * c.v_head_dim);
    Linear("indexer wq_b", c.index_n_heads * c.index_head_dim, c.q_lora_rank);
    Linear("expert gate_proj", c.moe_intermediate_size, c.hidden_size);
    Linear("expert down_proj", c.hidden_size, c.moe_intermediate_size);
    if (c.first_k_dense_replace > 0) Linear("dense gate_proj", c.intermediate_size, c.hidden_size);
    if (numerics_ == Numerics::kExact) {
      for (const int64_t rows : options_.rows) Scoring(rows);
      for (const int64_t rows : options_.rows) Attention(rows);
    }
    return std::move(figures_);
  }

 private:
  // The seconds of the fastest of the calls that fit into the time of a measurement.
  double Fastest(const std::function<void()>& call) const {
    int64_t best = std::numeric_limits<int64_t>::max();
    const int64_t end = NowNs() + static_cast<int64_t>(options_.seconds * 1e9);
    int64_t now = NowNs();
    do {
      call();
      const int64_t after = NowNs();
      best = std::min(best, after - now);
      now = after;
    } while (now < end);
    return static_cast<double>(best) / 1e9;
  }

  void MeasurePeak() {
    constexpr int64_t kRounds = 200'000;
    std::vector<double> done(options_.threads);
    const auto run = [&] {
      pool_.ParallelFor(options_.threads, [&](int64_t i) { done[i] = RunFmas(kRounds); });
    };
    const double seconds = Fastest(run);
    double operations = 0.0;
    for (const double count : done) operations += count;
    figures_.peak = std::max(figures_.peak, operations / seconds);
  }

  void Measure(const std::string& name, int64_t rows, double operations, const std::function<void()>& call) {
    MeasurePeak();
    figures_.ops.push_back({name, rows, operations, Fastest(call)});
  }

  OwnedTensor Random(DType dtype, int64_t rows, int64_t cols) {
    OwnedTensor tensor(dtype, rows, cols);
    const uint64_t key = SplitMix64(++tensors_);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        const auto at = static_cast<uint64_t>(i * cols + j);
        if (dtype == DType::kF8E4M3) {
          // Both signs, every mantissa, no NaN.
          tensor.view().At<uint8_t>(i, j) = static_cast<uint8_t>(SplitMix64(key + at) & 0xbf);
        } else {
          StoreFloat(tensor, i, j, RandomValue(key, at, 0.0, 1.0));
        }
      }
    }
    return tensor;
  }

  void Linear(const std::string& name, int64_t outputs, int64_t inputs) {
    const bool fp8 = numerics_ == Numerics::kFp8;
    const DType activation = ActivationType(numerics_);
    std::unique_ptr<ops::Weight> weight;
    {
      const OwnedTensor raw = Random(fp8 ? DType::kF8E4M3 : DType::kF32, outputs, inputs);
      const auto blocks = [](int64_t size) { return (size + ops::kQuantBlock - 1) / ops::kQuantBlock; };
      const std::vector<float> scales(static_cast<size_t>(blocks(outputs) * blocks(inputs)), 0x1p-7F);
      weight =
          ops_->Pack({raw.view().dtype, outputs, inputs, raw.view().data, fp8 ? scales.data() : nullptr});
    }
    for (const int64_t rows : options_.rows) {
      const OwnedTensor x = Random(activation, rows, inputs);
      const OwnedTensor y(activation, rows, outputs);
      Measure(fmt::format("{}, {} x {}", name, outputs, inputs), rows,
              2.0 * static_cast<double>(rows * outputs * inputs), [&] { ops_->Linear(x, *weight, y); });
    }
  }

  // One sequence whose pages lie in order, and `rows` rows at its end.
  struct Sequence {
    Sequence(int64_t rows, int64_t context) {
      for (int64_t t = 0; t < rows; ++t) places.push_back({0, static_cast<int32_t>(context - rows + t)});
      for (int64_t page = 0; page < context / ops::kPageTokens; ++page) {
        table.push_back(static_cast<int32_t>(page));
      }
      pages = table;
    }
    std::vector<ops::RowPlace> places;
    std::vector<int32_t> table;
    ops::PageTable pages;
  };

  void Scoring(int64_t rows) {
    const int64_t context = std::max(options_.context, (rows + 63) / 64 * 64);
    const ops::IndexerShape shape{config_.index_n_heads, config_.index_head_dim, config_.qk_rope_head_dim,
                                  config_.index_topk, false};
    const OwnedTensor cache = Random(DType::kF32, context, shape.dim);
    const OwnedTensor queries = Random(DType::kF32, rows, shape.heads * shape.dim);
    const OwnedTensor gates = Random(DType::kF32, rows, shape.heads);
    const OwnedTensor selection(DType::kI32, rows, shape.top_k);
    const Sequence sequence(rows, context);
    Measure(fmt::format("index scores + top-{}, {} keys", shape.top_k, context), rows,
            2.0 * static_cast<double>(rows * context * shape.heads * shape.dim), [&] {
              ops_->SelectKeys(shape, queries, gates,
                               {static_cast<std::byte*>(cache.view().data), ops::CacheFormat::kF32},
                               sequence.places, {&sequence.pages, 1}, selection);
            });
  }

  void Attention(int64_t rows) {
    const int64_t keys = config_.index_topk;
    const int64_t context = std::max<int64_t>(4 * keys, (rows + 63) / 64 * 64);
    const ops::AttentionShape shape{config_.num_attention_heads, config_.qk_nope_head_dim,
                                    config_.qk_rope_head_dim, config_.kv_lora_rank, config_.v_head_dim};
    const OwnedTensor cache = Random(DType::kF32, context, shape.latent_width());
    const OwnedTensor q = Random(DType::kF32, rows, shape.heads * shape.latent_width());
    const OwnedTensor o(DType::kF32, rows, shape.heads * shape.latent);
    const OwnedTensor selection(DType::kI32, rows, keys);
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t j = 0; j < keys; ++j) {
        selection.view().At<int32_t>(t, j) = static_cast<int32_t>(3 * j + t % 3);  // scattered, ascending
      }
    }
    const Sequence sequence(rows, context);
    Measure(fmt::format("sparse attention, {} keys", keys), rows,
            2.0 * static_cast<double>(rows * keys * shape.heads * (shape.latent_width() + shape.latent)),
            [&] {
              ops_->SparseAttention(shape, q,
                                    {static_cast<std::byte*>(cache.view().data), ops::CacheFormat::kF32},
                                    sequence.places, {&sequence.pages, 1}, selection, 0.1F, o);
            });
  }

  const checkpoint::ModelConfig& config_;
  const Numerics numerics_;
  const OpOptions& options_;
  ComputePool pool_;
  std::unique_ptr<ops::Ops> ops_;
  OpFigures figures_;
  uint64_t tensors_ = 0;
};

}  // namespace

OpFigures MeasureOps(const checkpoint::ModelConfig& config, ops::Numerics numerics,
                     const OpOptions& options) {
  return OpBench(config, numerics, options).Run();
}

}  // namespace sluice::bench
