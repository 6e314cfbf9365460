#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ops/ops.h"

namespace sluice::ops::reference {

// Stateless but for the numerics mode; spread over reference_ops.cc (projections and elementwise),
// attention.cc (caches, attention, indexer) and moe.cc (router, sums, sampling).
class ReferenceOps final : public Ops {
 public:
  explicit ReferenceOps(Numerics numerics) : numerics_(numerics) {}
  const char* name() const override { return "reference"; }
  Numerics numerics() const override { return numerics_; }

  std::unique_ptr<Weight> Pack(const RawMatrix& raw) override;
  std::unique_ptr<WeightGroup> PackGroup(std::span<const RawMatrix> raws) override;
  void Embed(const Tensor& table, int64_t first_id, std::span<const int32_t> ids, const Tensor& y) override;
  void Linear(const Activation& x, const Weight& w, const Tensor& y) override;
  void GroupedLinear(const Activation& x, const Tensor& groups, const WeightGroup& weights,
                     const Tensor& y) override;
  void RmsNorm(const Tensor& x, const Tensor& w, float eps, const Activation& y) override;
  void AddRmsNorm(const Tensor& delta, const Tensor& x, const Tensor& w, float eps,
                  const Activation& y) override;
  void SwiGlu(const Tensor& gate, const Tensor& up, const Activation& y) override;
  void Add(const Tensor& x, const Tensor& y) override;
  void CopyRows(const Tensor& x, std::span<const int64_t> source, const Tensor& y) override;
  void TakeRows(const Tensor& x, const Tensor& rows, const Tensor& y) override;
  void RopeAngles(std::span<const RowPlace> places, std::span<const float> inv_freq,
                  const Tensor& out) override;
  void AbsorbQuery(const AttentionShape& shape, const Tensor& q, const WeightGroup& up_keys,
                   const Tensor& angles, const Tensor& q_latent) override;
  void LatentRows(const AttentionShape& shape, const Tensor& kv, const Tensor& norm, float eps,
                  const Tensor& angles, const Tensor& rows) override;
  void ValueUp(const AttentionShape& shape, const Tensor& o_latent, const WeightGroup& up_values,
               const Tensor& o) override;
  void SparseAttention(const AttentionShape& shape, const Tensor& q_latent, const PagedCache& latents,
                       std::span<const RowPlace> places, std::span<const PageTable> pages,
                       const Tensor& selection, float scale, const Tensor& o_latent) override;
  void IndexQueries(const IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                    const Tensor& angles, const Tensor& queries, const Tensor& gates) override;
  void IndexKeyRows(const IndexerShape& shape, const Tensor& k, const Tensor& weight, const Tensor& bias,
                    const Tensor& angles, const Tensor& rows) override;
  void SelectKeys(const IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                  const PagedCache& index_keys, std::span<const RowPlace> places,
                  std::span<const PageTable> pages, const Tensor& selection) override;
  void WriteLatents(const Tensor& rows, std::span<const RowPlace> places, std::span<const PageTable> pages,
                    const PagedCache& latents) override;
  void WriteIndexKeys(const Tensor& rows, std::span<const RowPlace> places, std::span<const PageTable> pages,
                      const PagedCache& index_keys) override;
  void Route(const RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
             const Tensor& weights) override;
  void PlanExperts(const Tensor& ids, int64_t first_expert, const ExpertPlan& plan) override;
  void SumExperts(const Tensor& y, const Tensor& pairs, const ExpertChoices& choices,
                  const ExpertLeaves& leaves, std::span<const Subtree> subtrees,
                  const Tensor& nodes) override;
  void JoinSubtrees(const Tensor& nodes, const Tensor& ids, const ExpertLeaves& leaves,
                    std::span<const SubtreeRows> subtrees, const Tensor& out) override;
  void SumTerms(const Tensor& y, std::span<const ExpertTerm> terms, std::span<const int64_t> offsets,
                const Tensor& out) override;
  void JoinNodes(std::span<const NodeJoin> joins, const Tensor& nodes) override;
  std::vector<Sampled> Sample(const Tensor& logits, std::span<const SamplingParams> params,
                              std::span<const LogitAdjust> adjusts,
                              std::span<const int64_t> positions) override;
  std::vector<Sampled> Logprobs(const Tensor& logits, std::span<const int32_t> targets, int32_t top) override;

 private:
  Numerics numerics_;
};

}  // namespace sluice::ops::reference
