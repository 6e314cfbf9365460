#include "ops/cpu/cpu_ops.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cpu/attention.h"
#include "ops/cpu/gemm.h"
#include "ops/cpu/index_select.h"
#include "ops/cpu/rows.h"
#include "ops/host_matrix.h"
#include "ops/rope.h"
#include "ops/sampling.h"
#include "ops/weight_list.h"

namespace sluice::ops {
namespace cpu {
namespace {

const PackedWeight& Packed(const Weight& weight) { return static_cast<const PackedWeight&>(weight); }

// The form of x that a weight reads.
const Tensor& FormFor(const Weight& w, const Activation& x) {
  return w.is_fp8() && x.forms().quantized ? x.quantized : x.values;
}

std::byte* PageAt(const PagedCache& cache, PageTable pages, int64_t position, int64_t row_bytes) {
  return cache.base + static_cast<int64_t>(pages[position / kPageTokens]) * kPageTokens * row_bytes;
}

class CpuOps final : public Ops {
 public:
  CpuOps(Numerics numerics, ComputePool& pool) : numerics_(numerics), pool_(pool) {}
  const char* name() const override { return "cpu"; }
  Numerics numerics() const override { return numerics_; }

  std::unique_ptr<Weight> Pack(const RawMatrix& raw) override {
    return std::make_unique<PackedWeight>(HostMatrix(raw, pool_).raw(), numerics_);
  }
  std::unique_ptr<WeightGroup> PackGroup(std::span<const RawMatrix> raws) override {
    std::vector<std::unique_ptr<Weight>> weights(raws.size());
    pool_.ParallelFor(std::ssize(raws), [&](int64_t i) {
      ComputePool alone(0);
      weights[i] = std::make_unique<PackedWeight>(HostMatrix(raws[i], alone).raw(), numerics_);
    });
    return std::make_unique<WeightList>(std::move(weights));
  }

  void Embed(const Tensor& table, int64_t first_id, std::span<const int32_t> ids, const Tensor& y) override {
    ForRows(std::ssize(ids), y.cols,
            [&](int64_t begin, int64_t end) { EmbedRows(table, first_id, ids, y, begin, end); });
  }

  void Linear(const Activation& x, const Weight& w, const Tensor& y) override {
    const LinearJob job{FormFor(w, x), &Packed(w), y};
    CheckLinear(job);
    RunLinears({&job, 1}, pool_);
  }

  void GroupedLinear(const Activation& x, const Tensor& groups, const WeightGroup& weights,
                     const Tensor& y) override {
    std::vector<LinearJob> jobs;
    for (int64_t g = 0; g < groups.rows; ++g) {
      const auto* group = groups.Row<const int32_t>(g);
      const int64_t rows = group[1] - group[0];
      if (rows == 0) continue;
      const PackedWeight& weight = Packed(ListOf(weights)[group[2]]);
      jobs.push_back({FormFor(weight, x).RowRange(group[0], rows), &weight, y.RowRange(group[0], rows)});
      CheckLinear(jobs.back());
    }
    RunLinears(jobs, pool_);
  }

  void RmsNorm(const Tensor& x, const Tensor& w, float eps, const Activation& y) override {
    ForRows(x.rows, x.cols, [&](int64_t begin, int64_t end) { RmsNormRows(x, w, eps, y, begin, end); });
  }
  void AddRmsNorm(const Tensor& delta, const Tensor& x, const Tensor& w, float eps,
                  const Activation& y) override {
    ForRows(x.rows, 2 * x.cols, [&](int64_t begin, int64_t end) {
      AddRows(delta, x, begin, end);
      RmsNormRows(x, w, eps, y, begin, end);
    });
  }
  void SwiGlu(const Tensor& gate, const Tensor& up, const Activation& y) override {
    ForRows(gate.rows, gate.cols, [&](int64_t begin, int64_t end) { SwiGluRows(gate, up, y, begin, end); });
  }
  void Add(const Tensor& x, const Tensor& y) override {
    ForRows(x.rows, x.cols, [&](int64_t begin, int64_t end) { AddRows(x, y, begin, end); });
  }
  void CopyRows(const Tensor& x, std::span<const int64_t> source, const Tensor& y) override {
    const int64_t element = SizeOf(x.dtype);
    ForRows(std::ssize(source), y.cols, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        std::memcpy(static_cast<std::byte*>(y.data) + i * y.stride * element,
                    static_cast<const std::byte*>(x.data) + source[i] * x.stride * element, y.cols * element);
      }
    });
  }

  void TakeRows(const Tensor& x, const Tensor& rows, const Tensor& y) override {
    const int64_t bytes = y.cols * SizeOf(x.dtype);
    ForRows(y.rows, y.cols, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t source = rows.At<const int32_t>(0, i);
        if (source >= 0) std::memcpy(y.RowRange(i, 1).data, x.RowRange(source, 1).data, bytes);
      }
    });
  }

  void RopeAngles(std::span<const RowPlace> places, std::span<const float> inv_freq,
                  const Tensor& out) override {
    ForRows(std::ssize(places), 32 * out.cols, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) RopeRow(places[t].position, inv_freq, out.Row<float>(t));
    });
  }

  void AbsorbQuery(const AttentionShape& shape, const Tensor& q, const WeightGroup& up_keys,
                   const Tensor& angles, const Tensor& q_latent) override {
    std::vector<LinearJob> jobs;
    for (int64_t h = 0; h < shape.heads; ++h) {
      jobs.push_back({q.ColRange(h * shape.query_width(), shape.nope), &Packed(ListOf(up_keys)[h]),
                      q_latent.ColRange(h * shape.latent_width(), shape.latent)});
      CheckLinear(jobs.back());
    }
    RunLinears(jobs, pool_);
    ForRows(q.rows, 4 * shape.heads * shape.rope,
            [&](int64_t begin, int64_t end) { RotateQueryRows(shape, q, angles, q_latent, begin, end); });
  }

  void LatentRows(const AttentionShape& shape, const Tensor& kv, const Tensor& norm, float eps,
                  const Tensor& angles, const Tensor& rows) override {
    ForRows(kv.rows, 4 * kv.cols, [&](int64_t begin, int64_t end) {
      LatentRowsRange(numerics_, shape, kv, norm, eps, angles, rows, begin, end);
    });
  }

  void ValueUp(const AttentionShape& shape, const Tensor& o_latent, const WeightGroup& up_values,
               const Tensor& o) override {
    std::vector<LinearJob> jobs;
    for (int64_t h = 0; h < shape.heads; ++h) {
      jobs.push_back({o_latent.ColRange(h * shape.latent, shape.latent), &Packed(ListOf(up_values)[h]),
                      o.ColRange(h * shape.value, shape.value)});
      CheckLinear(jobs.back());
    }
    RunLinears(jobs, pool_);
  }

  void SparseAttention(const AttentionShape& shape, const Tensor& q_latent, const PagedCache& latents,
                       std::span<const RowPlace> places, std::span<const PageTable> pages,
                       const Tensor& selection, float scale, const Tensor& o_latent) override {
    cpu::SparseAttention(shape, q_latent, latents, places, pages, selection, scale, o_latent, pool_);
  }

  void IndexQueries(const IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                    const Tensor& angles, const Tensor& queries, const Tensor& gates) override {
    CheckIndexer(shape);
    ForRows(q.rows, 8 * q.cols, [&](int64_t begin, int64_t end) {
      IndexQueryRows(numerics_, shape, q, gate_logits, angles, queries, gates, begin, end);
    });
  }
  void IndexKeyRows(const IndexerShape& shape, const Tensor& k, const Tensor& weight, const Tensor& bias,
                    const Tensor& angles, const Tensor& rows) override {
    CheckIndexer(shape);
    ForRows(k.rows, 8 * k.cols, [&](int64_t begin, int64_t end) {
      IndexKeyRowsRange(numerics_, shape, k, weight, bias, angles, rows, begin, end);
    });
  }
  void SelectKeys(const IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                  const PagedCache& index_keys, std::span<const RowPlace> places,
                  std::span<const PageTable> pages, const Tensor& selection) override {
    cpu::SelectKeys(shape, queries, gates, index_keys, places, pages, selection, pool_);
  }

  void WriteLatents(const Tensor& rows, std::span<const RowPlace> places, std::span<const PageTable> pages,
                    const PagedCache& latents) override {
    for (int64_t t = 0; t < rows.rows; ++t) {
      const auto [sequence, position] = places[t];
      std::byte* page = PageAt(latents, pages[sequence], position, rows.cols);
      std::memcpy(page + position % kPageTokens * rows.cols, rows.Row<std::byte>(t), rows.cols);
    }
  }
  void WriteIndexKeys(const Tensor& rows, std::span<const RowPlace> places, std::span<const PageTable> pages,
                      const PagedCache& index_keys) override {
    for (int64_t t = 0; t < rows.rows; ++t) {
      const auto [sequence, position] = places[t];
      const int64_t slot = position % kPageTokens;
      std::byte* page = PageAt(index_keys, pages[sequence], position, rows.cols);
      const auto* row = rows.Row<std::byte>(t);
      if (index_keys.format == CacheFormat::kF32) {
        std::memcpy(page + slot * rows.cols, row, rows.cols);
      } else {
        const int64_t dim = rows.cols - 4;
        std::memcpy(page + slot * dim, row, dim);
        std::memcpy(page + kPageTokens * dim + slot * 4, row + dim, 4);
      }
    }
  }

  void Route(const RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
             const Tensor& weights) override {
    ForRows(logits.rows, 16 * logits.cols,
            [&](int64_t begin, int64_t end) { RouteRows(shape, logits, bias, ids, weights, begin, end); });
  }
  void PlanExperts(const Tensor& ids, int64_t first_expert, const ExpertPlan& plan) override {
    cpu::PlanExperts(ids, first_expert, plan);
  }
  void SumExperts(const Tensor& y, const Tensor& pairs, const ExpertChoices& choices,
                  const ExpertLeaves& leaves, std::span<const Subtree> subtrees,
                  const Tensor& nodes) override {
    ForRows(pairs.rows, 4 * pairs.cols * y.cols, [&](int64_t begin, int64_t end) {
      SumExpertsRange(y, pairs, choices, leaves, subtrees, nodes, begin, end);
    });
  }
  void JoinSubtrees(const Tensor& nodes, const Tensor& ids, const ExpertLeaves& leaves,
                    std::span<const SubtreeRows> subtrees, const Tensor& out) override {
    ForRows(out.rows, 4 * std::ssize(subtrees) * out.cols, [&](int64_t begin, int64_t end) {
      JoinSubtreesRange(nodes, ids, leaves, subtrees, out, begin, end);
    });
  }
  void SumTerms(const Tensor& y, std::span<const ExpertTerm> terms, std::span<const int64_t> offsets,
                const Tensor& out) override {
    ForRows(out.rows, 4 * out.cols,
            [&](int64_t begin, int64_t end) { SumTermsRows(y, terms, offsets, out, begin, end); });
  }
  void JoinNodes(std::span<const NodeJoin> joins, const Tensor& nodes) override {
    // Joins depend on one another; columns do not.
    constexpr int64_t kColumns = 256;
    pool_.ParallelFor(CeilDiv(nodes.cols, kColumns), [&](int64_t i) {
      JoinNodesColumns(joins, nodes, i * kColumns, std::min((i + 1) * kColumns, nodes.cols));
    });
  }

  std::vector<Sampled> Sample(const Tensor& logits, std::span<const SamplingParams> params,
                              std::span<const LogitAdjust> adjusts,
                              std::span<const int64_t> positions) override {
    std::vector<Sampled> sampled(logits.rows);
    pool_.ParallelFor(logits.rows, [&](int64_t t) {
      sampled[t] = SampleRow({logits.Row<float>(t), static_cast<size_t>(logits.cols)}, params[t], adjusts[t],
                             positions[t]);
    });
    return sampled;
  }
  std::vector<Sampled> Logprobs(const Tensor& logits, std::span<const int32_t> targets,
                                int32_t top) override {
    std::vector<Sampled> result(logits.rows);
    pool_.ParallelFor(logits.rows, [&](int64_t t) {
      result[t] = LogprobRow({logits.Row<float>(t), static_cast<size_t>(logits.cols)}, targets[t], top);
    });
    return result;
  }

 private:
  // body(begin, end) over ranges of rows, each large enough to be worth a thread's while.
  template <class Body>
  void ForRows(int64_t rows, int64_t cost_per_row, const Body& body) {
    constexpr int64_t kCost = 1 << 15;
    const int64_t step = std::max<int64_t>(1, kCost / std::max<int64_t>(cost_per_row, 1));
    pool_.ParallelFor(CeilDiv(rows, step),
                      [&](int64_t i) { body(i * step, std::min((i + 1) * step, rows)); });
  }

  static void CheckLinear(const LinearJob& job) {
    const auto& [x, w, y] = job;
    const int64_t cols = x.dtype == DType::kU8 ? QuantizedRowBytes(w->cols()) : w->cols();
    SLUICE_CHECK(x.cols == cols && y.cols == w->rows() && x.rows == y.rows,
                 "x is {} x {}, W {} x {}, y {} x {}", x.rows, x.cols, w->rows(), w->cols(), y.rows, y.cols);
  }
  void CheckIndexer(const IndexerShape& shape) const {
    SLUICE_CHECK(numerics_ == Numerics::kExact || std::has_single_bit(static_cast<uint64_t>(shape.dim)),
                 "the Hadamard transform needs a power of two, index_head_dim is {}", shape.dim);
  }

  Numerics numerics_;
  ComputePool& pool_;
};

}  // namespace
}  // namespace cpu

std::unique_ptr<Ops> MakeCpuOps(Numerics numerics, ComputePool& pool) {
  return std::make_unique<cpu::CpuOps>(numerics, pool);
}

}  // namespace sluice::ops
