#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "ops/ops.h"

namespace sluice::layouts {

// What one rank computed: rows by op, and when each op ran.
struct OpLog {
  std::mutex mutex;
  std::map<std::string, int64_t> rows;
  std::vector<std::pair<int64_t, std::string>> calls;  // (begin in ns, op)
  std::function<void(const std::string& op)> on_call;  // before the op runs; may be empty, may block

  void Add(const char* op, int64_t count) {
    {
      std::lock_guard lock(mutex);
      rows[op] += count;
      calls.emplace_back(NowNs(), op);
    }
    if (on_call) on_call(op);
  }
};

// Hands every op on to another back end and notes its rows.
class CountingOps : public ops::Ops {
 public:
  CountingOps(std::unique_ptr<ops::Ops> inner, OpLog& log) : inner_(std::move(inner)), log_(log) {}
  const char* name() const override { return inner_->name(); }
  ops::Numerics numerics() const override { return inner_->numerics(); }
  Memory& memory() override { return inner_->memory(); }
  void Finish() override { inner_->Finish(); }
  WorkStream* stream() override { return inner_->stream(); }
  void SetSmBudget(SmBudget budget) override { inner_->SetSmBudget(budget); }
  void Reserve(const ops::OpLimits& limits) override { inner_->Reserve(limits); }
  std::unique_ptr<ops::Weight> Pack(const ops::RawMatrix& raw) override { return inner_->Pack(raw); }
  std::unique_ptr<ops::WeightGroup> PackGroup(std::span<const ops::RawMatrix> raws) override {
    return inner_->PackGroup(raws);
  }

  void Embed(const Tensor& table, int64_t first_id, std::span<const int32_t> ids, const Tensor& y) override {
    log_.Add("Embed", y.rows);
    inner_->Embed(table, first_id, ids, y);
  }
  void Linear(const Tensor& x, const ops::Weight& w, const Tensor& y) override {
    log_.Add("Linear", x.rows);
    inner_->Linear(x, w, y);
  }
  // Rows of the groups, where the host can read them.
  void GroupedLinear(const Tensor& x, const Tensor& groups, const ops::WeightGroup& weights,
                     const Tensor& y) override {
    int64_t grouped = 0;
    for (int64_t g = 0; g < groups.rows && memory().OnHost(); ++g)
      grouped += groups.At<int32_t>(g, 1) - groups.At<int32_t>(g, 0);
    log_.Add("GroupedLinear", grouped);
    inner_->GroupedLinear(x, groups, weights, y);
  }
  void RmsNorm(const Tensor& x, const Tensor& w, float eps, const Tensor& y) override {
    log_.Add("RmsNorm", x.rows);
    inner_->RmsNorm(x, w, eps, y);
  }
  void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& y) override {
    log_.Add("SwiGlu", y.rows);
    inner_->SwiGlu(gate, up, y);
  }
  void Add(const Tensor& x, const Tensor& y) override {
    log_.Add("Add", y.rows);
    inner_->Add(x, y);
  }
  void CopyRows(const Tensor& x, std::span<const int64_t> source, const Tensor& y) override {
    log_.Add("CopyRows", y.rows);
    inner_->CopyRows(x, source, y);
  }
  void TakeRows(const Tensor& x, const Tensor& rows, const Tensor& y) override {
    log_.Add("TakeRows", y.rows);
    inner_->TakeRows(x, rows, y);
  }
  void QuantizeRows(const Tensor& x, const Tensor& rows) override {
    log_.Add("QuantizeRows", x.rows);
    inner_->QuantizeRows(x, rows);
  }
  void DequantizeRows(const Tensor& rows, const Tensor& y) override {
    log_.Add("DequantizeRows", y.rows);
    inner_->DequantizeRows(rows, y);
  }
  void RopeAngles(std::span<const ops::RowPlace> places, std::span<const float> inv_freq,
                  const Tensor& out) override {
    log_.Add("RopeAngles", out.rows);
    inner_->RopeAngles(places, inv_freq, out);
  }
  void AbsorbQuery(const ops::AttentionShape& shape, const Tensor& q, const ops::WeightGroup& up_keys,
                   const Tensor& angles, const Tensor& q_latent) override {
    log_.Add("AbsorbQuery", q.rows);
    inner_->AbsorbQuery(shape, q, up_keys, angles, q_latent);
  }
  void LatentRows(const ops::AttentionShape& shape, const Tensor& kv, const Tensor& norm, float eps,
                  const Tensor& angles, const Tensor& rows) override {
    log_.Add("LatentRows", kv.rows);
    inner_->LatentRows(shape, kv, norm, eps, angles, rows);
  }
  void ValueUp(const ops::AttentionShape& shape, const Tensor& o_latent, const ops::WeightGroup& up_values,
               const Tensor& o) override {
    log_.Add("ValueUp", o.rows);
    inner_->ValueUp(shape, o_latent, up_values, o);
  }
  void SparseAttention(const ops::AttentionShape& shape, const Tensor& q_latent,
                       const ops::PagedCache& latents, std::span<const ops::RowPlace> places,
                       std::span<const ops::PageTable> pages, const Tensor& selection, float scale,
                       const Tensor& o_latent) override {
    log_.Add("SparseAttention", q_latent.rows);
    inner_->SparseAttention(shape, q_latent, latents, places, pages, selection, scale, o_latent);
  }
  void IndexQueries(const ops::IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                    const Tensor& angles, const Tensor& queries, const Tensor& gates) override {
    log_.Add("IndexQueries", q.rows);
    inner_->IndexQueries(shape, q, gate_logits, angles, queries, gates);
  }
  void IndexKeyRows(const ops::IndexerShape& shape, const Tensor& k, const Tensor& weight, const Tensor& bias,
                    const Tensor& angles, const Tensor& rows) override {
    log_.Add("IndexKeyRows", k.rows);
    inner_->IndexKeyRows(shape, k, weight, bias, angles, rows);
  }
  void SelectKeys(const ops::IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                  const ops::PagedCache& index_keys, std::span<const ops::RowPlace> places,
                  std::span<const ops::PageTable> pages, const Tensor& selection) override {
    log_.Add("SelectKeys", queries.rows);
    inner_->SelectKeys(shape, queries, gates, index_keys, places, pages, selection);
  }
  void WriteLatents(const Tensor& rows, std::span<const ops::RowPlace> places,
                    std::span<const ops::PageTable> pages, const ops::PagedCache& latents) override {
    log_.Add("WriteLatents", rows.rows);
    inner_->WriteLatents(rows, places, pages, latents);
  }
  void WriteIndexKeys(const Tensor& rows, std::span<const ops::RowPlace> places,
                      std::span<const ops::PageTable> pages, const ops::PagedCache& index_keys) override {
    log_.Add("WriteIndexKeys", rows.rows);
    inner_->WriteIndexKeys(rows, places, pages, index_keys);
  }
  void Route(const ops::RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
             const Tensor& weights) override {
    log_.Add("Route", logits.rows);
    inner_->Route(shape, logits, bias, ids, weights);
  }
  void PlanExperts(const Tensor& ids, int64_t first_expert, const ops::ExpertPlan& plan) override {
    log_.Add("PlanExperts", ids.rows);
    inner_->PlanExperts(ids, first_expert, plan);
  }
  void SumExperts(const Tensor& y, const Tensor& pairs, const ops::ExpertChoices& choices,
                  const ops::ExpertLeaves& leaves, std::span<const ops::Subtree> subtrees,
                  const Tensor& nodes) override {
    log_.Add("SumExperts", pairs.rows);
    inner_->SumExperts(y, pairs, choices, leaves, subtrees, nodes);
  }
  void JoinSubtrees(const Tensor& nodes, const Tensor& ids, const ops::ExpertLeaves& leaves,
                    std::span<const ops::SubtreeRows> subtrees, const Tensor& out) override {
    log_.Add("JoinSubtrees", out.rows);
    inner_->JoinSubtrees(nodes, ids, leaves, subtrees, out);
  }
  void SumTerms(const Tensor& y, std::span<const ops::ExpertTerm> terms, std::span<const int64_t> offsets,
                const Tensor& out) override {
    log_.Add("SumTerms", out.rows);
    inner_->SumTerms(y, terms, offsets, out);
  }
  void JoinNodes(std::span<const ops::NodeJoin> joins, const Tensor& nodes) override {
    log_.Add("JoinNodes", static_cast<int64_t>(joins.size()));
    inner_->JoinNodes(joins, nodes);
  }
  std::vector<ops::Sampled> Sample(const Tensor& logits, std::span<const ops::SamplingParams> params,
                                   std::span<const ops::LogitAdjust> adjusts,
                                   std::span<const int64_t> positions) override {
    log_.Add("Sample", logits.rows);
    return inner_->Sample(logits, params, adjusts, positions);
  }
  std::vector<ops::Sampled> Logprobs(const Tensor& logits, std::span<const int32_t> targets,
                                     int32_t top) override {
    log_.Add("Logprobs", logits.rows);
    return inner_->Logprobs(logits, targets, top);
  }

 private:
  std::unique_ptr<ops::Ops> inner_;
  OpLog& log_;
};

}  // namespace sluice::layouts
