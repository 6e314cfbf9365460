#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/function_ref.h"
#include "ops/ops.h"

namespace sluice::ops {

// Hands every op on to another back end, through one function: for what notes, counts, delays, times or
// changes ops. Allocates nothing.
class WrappedOps : public Ops {
 public:
  explicit WrappedOps(std::unique_ptr<Ops> inner) : inner_(std::move(inner)) {}
  Ops& inner() { return *inner_; }

  const char* name() const override { return inner_->name(); }
  Numerics numerics() const override { return inner_->numerics(); }
  Memory& memory() override { return inner_->memory(); }
  void Finish() override { inner_->Finish(); }
  std::unique_ptr<StreamMark> Mark() override { return inner_->Mark(); }
  void FinishUpTo(const StreamMark* mark) override { inner_->FinishUpTo(mark); }
  WorkStream* stream() override { return inner_->stream(); }
  void SetSmBudget(SmBudget budget) override { inner_->SetSmBudget(budget); }
  void Reserve(const OpLimits& limits) override { inner_->Reserve(limits); }
  bool HasGraphs() const override { return inner_->HasGraphs(); }
  void RecordGraph(int64_t key) override { inner_->RecordGraph(key); }
  void LaunchGraph(int64_t key) override { inner_->LaunchGraph(key); }
  void EndGraph() override { inner_->EndGraph(); }
  std::unique_ptr<Weight> Pack(const RawMatrix& raw) override { return inner_->Pack(raw); }
  std::unique_ptr<WeightGroup> PackGroup(std::span<const RawMatrix> raws) override {
    return inner_->PackGroup(raws);
  }

  void Embed(const Tensor& table, int64_t first_id, std::span<const int32_t> ids, const Tensor& y) override {
    Around("Embed", y.rows, [&] { inner_->Embed(table, first_id, ids, y); });
  }
  void Linear(const Activation& x, const Weight& w, const Tensor& y) override {
    Around("Linear", y.rows, [&] { inner_->Linear(x, w, y); });
  }
  void GroupedLinear(const Activation& x, const Tensor& groups, const WeightGroup& weights,
                     const Tensor& y) override {
    Around("GroupedLinear", RowsIn(groups, y.rows), [&] { inner_->GroupedLinear(x, groups, weights, y); });
  }
  void RmsNorm(const Tensor& x, const Tensor& w, float eps, const Activation& y) override {
    Around("RmsNorm", x.rows, [&] { inner_->RmsNorm(x, w, eps, y); });
  }
  void AddRmsNorm(const Tensor& delta, const Tensor& x, const Tensor& w, float eps,
                  const Activation& y) override {
    Around("AddRmsNorm", x.rows, [&] { inner_->AddRmsNorm(delta, x, w, eps, y); });
  }
  void SwiGlu(const Tensor& gate, const Tensor& up, const Activation& y) override {
    Around("SwiGlu", gate.rows, [&] { inner_->SwiGlu(gate, up, y); });
  }
  void Add(const Tensor& x, const Tensor& y) override {
    Around("Add", y.rows, [&] { inner_->Add(x, y); });
  }
  void CopyRows(const Tensor& x, std::span<const int64_t> source, const Tensor& y) override {
    Around("CopyRows", y.rows, [&] { inner_->CopyRows(x, source, y); });
  }
  void TakeRows(const Tensor& x, const Tensor& rows, const Tensor& y) override {
    Around("TakeRows", y.rows, [&] { inner_->TakeRows(x, rows, y); });
  }
  void RopeAngles(std::span<const RowPlace> places, std::span<const float> inv_freq,
                  const Tensor& out) override {
    Around("RopeAngles", out.rows, [&] { inner_->RopeAngles(places, inv_freq, out); });
  }
  void AbsorbQuery(const AttentionShape& shape, const Tensor& q, const WeightGroup& up_keys,
                   const Tensor& angles, const Tensor& q_latent) override {
    Around("AbsorbQuery", q.rows, [&] { inner_->AbsorbQuery(shape, q, up_keys, angles, q_latent); });
  }
  void LatentRows(const AttentionShape& shape, const Tensor& kv, const Tensor& norm, float eps,
                  const Tensor& angles, const Tensor& rows) override {
    Around("LatentRows", kv.rows, [&] { inner_->LatentRows(shape, kv, norm, eps, angles, rows); });
  }
  void ValueUp(const AttentionShape& shape, const Tensor& o_latent, const WeightGroup& up_values,
               const Tensor& o) override {
    Around("ValueUp", o.rows, [&] { inner_->ValueUp(shape, o_latent, up_values, o); });
  }
  void SparseAttention(const AttentionShape& shape, const Tensor& q_latent, const PagedCache& latents,
                       std::span<const RowPlace> places, std::span<const PageTable> pages,
                       const Tensor& selection, float scale, const Tensor& o_latent) override {
    Around("SparseAttention", q_latent.rows, [&] {
      inner_->SparseAttention(shape, q_latent, latents, places, pages, selection, scale, o_latent);
    });
  }
  void IndexQueries(const IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                    const Tensor& angles, const Tensor& queries, const Tensor& gates) override {
    Around("IndexQueries", q.rows,
           [&] { inner_->IndexQueries(shape, q, gate_logits, angles, queries, gates); });
  }
  void IndexKeyRows(const IndexerShape& shape, const Tensor& k, const Tensor& weight, const Tensor& bias,
                    const Tensor& angles, const Tensor& rows) override {
    Around("IndexKeyRows", k.rows, [&] { inner_->IndexKeyRows(shape, k, weight, bias, angles, rows); });
  }
  void SelectKeys(const IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                  const PagedCache& index_keys, std::span<const RowPlace> places,
                  std::span<const PageTable> pages, const Tensor& selection) override {
    Around("SelectKeys", queries.rows,
           [&] { inner_->SelectKeys(shape, queries, gates, index_keys, places, pages, selection); });
  }
  void WriteLatents(const Tensor& rows, std::span<const RowPlace> places, std::span<const PageTable> pages,
                    const PagedCache& latents) override {
    Around("WriteLatents", rows.rows, [&] { inner_->WriteLatents(rows, places, pages, latents); });
  }
  void WriteIndexKeys(const Tensor& rows, std::span<const RowPlace> places, std::span<const PageTable> pages,
                      const PagedCache& index_keys) override {
    Around("WriteIndexKeys", rows.rows, [&] { inner_->WriteIndexKeys(rows, places, pages, index_keys); });
  }
  void Route(const RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
             const Tensor& weights) override {
    Around("Route", logits.rows, [&] { inner_->Route(shape, logits, bias, ids, weights); });
  }
  void PlanExperts(const Tensor& ids, int64_t first_expert, const ExpertPlan& plan) override {
    Around("PlanExperts", ids.rows, [&] { inner_->PlanExperts(ids, first_expert, plan); });
  }
  void SumExperts(const Tensor& y, const Tensor& pairs, const ExpertChoices& choices,
                  const ExpertLeaves& leaves, std::span<const Subtree> subtrees,
                  const Tensor& nodes) override {
    Around("SumExperts", pairs.rows, [&] { inner_->SumExperts(y, pairs, choices, leaves, subtrees, nodes); });
  }
  void JoinSubtrees(const Tensor& nodes, const Tensor& ids, const ExpertLeaves& leaves,
                    std::span<const SubtreeRows> subtrees, const Tensor& out) override {
    Around("JoinSubtrees", out.rows, [&] { inner_->JoinSubtrees(nodes, ids, leaves, subtrees, out); });
  }
  void SumTerms(const Tensor& y, std::span<const ExpertTerm> terms, std::span<const int64_t> offsets,
                const Tensor& out) override {
    Around("SumTerms", out.rows, [&] { inner_->SumTerms(y, terms, offsets, out); });
  }
  void JoinNodes(std::span<const NodeJoin> joins, const Tensor& nodes) override {
    Around("JoinNodes", static_cast<int64_t>(joins.size()), [&] { inner_->JoinNodes(joins, nodes); });
  }
  std::vector<Sampled> Sample(const Tensor& logits, std::span<const SamplingParams> params,
                              std::span<const LogitAdjust> adjusts,
                              std::span<const int64_t> positions) override {
    std::vector<Sampled> sampled;
    Around("Sample", logits.rows, [&] { sampled = inner_->Sample(logits, params, adjusts, positions); });
    return sampled;
  }
  std::vector<Sampled> Logprobs(const Tensor& logits, std::span<const int32_t> targets,
                                int32_t top) override {
    std::vector<Sampled> likely;
    Around("Logprobs", logits.rows, [&] { likely = inner_->Logprobs(logits, targets, top); });
    return likely;
  }

 protected:
  // Called in place of each op, with its name and rows; run() is the op.
  virtual void Around(const char* op, int64_t rows, FunctionRef<void()> run) = 0;

 private:
  // Rows of the groups where the host can read them, else all.
  int64_t RowsIn(const Tensor& groups, int64_t all) {
    if (!memory().OnHost()) return all;
    int64_t rows = 0;
    for (int64_t g = 0; g < groups.rows; ++g) {
      rows += int64_t{groups.At<int32_t>(g, 1)} - groups.At<int32_t>(g, 0);
    }
    return rows;
  }

  const std::unique_ptr<Ops> inner_;
};

}  // namespace sluice::ops
