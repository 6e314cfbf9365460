#include "ops/traced_ops.h"

#include <array>
#include <utility>

namespace sluice::ops {
namespace {

enum class Op : size_t {
  kEmbed,
  kLinear,
  kGroupedLinear,
  kRmsNorm,
  kSwiGlu,
  kAdd,
  kCopyRows,
  kTakeRows,
  kQuantizeRows,
  kDequantizeRows,
  kRopeAngles,
  kAbsorbQuery,
  kLatentRows,
  kValueUp,
  kSparseAttention,
  kIndexQueries,
  kIndexKeyRows,
  kSelectKeys,
  kWriteLatents,
  kWriteIndexKeys,
  kRoute,
  kPlanExperts,
  kSumExperts,
  kJoinSubtrees,
  kSumTerms,
  kJoinNodes,
  kSample,
  kLogprobs,
  kFinish,
  kCount
};
constexpr std::array<const char*, static_cast<size_t>(Op::kCount)> kNames{
    "Embed",        "Linear",         "GroupedLinear",   "RmsNorm",        "SwiGlu",       "Add",
    "CopyRows",     "TakeRows",       "QuantizeRows",    "DequantizeRows", "RopeAngles",   "AbsorbQuery",
    "LatentRows",   "ValueUp",        "SparseAttention", "IndexQueries",   "IndexKeyRows", "SelectKeys",
    "WriteLatents", "WriteIndexKeys", "Route",           "PlanExperts",    "SumExperts",   "JoinSubtrees",
    "SumTerms",     "JoinNodes",      "Sample",          "Logprobs",       "Finish"};

class TracedOps final : public Ops {
 public:
  TracedOps(std::unique_ptr<Ops> inner, trace::Recorder& recorder)
      : inner_(std::move(inner)), recorder_(recorder) {
    for (size_t op = 0; op < kNames.size(); ++op) ids_[op] = recorder.NameId(kNames[op]);
  }

  const char* name() const override { return inner_->name(); }
  Numerics numerics() const override { return inner_->numerics(); }
  Memory& memory() override { return inner_->memory(); }
  WorkStream* stream() override { return inner_->stream(); }
  // Nothing to wait for is not an op.
  void Finish() override {
    if (inner_->stream() == nullptr) return inner_->Finish();
    const Noted noted(*this, Op::kFinish, 0);
    inner_->Finish();
  }
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
    const Noted noted(*this, Op::kEmbed, y.rows);
    inner_->Embed(table, first_id, ids, y);
  }
  void Linear(const Tensor& x, const Weight& w, const Tensor& y) override {
    const Noted noted(*this, Op::kLinear, x.rows);
    inner_->Linear(x, w, y);
  }
  void GroupedLinear(const Tensor& x, const Tensor& groups, const WeightGroup& weights,
                     const Tensor& y) override {
    const Noted noted(*this, Op::kGroupedLinear, x.rows);
    inner_->GroupedLinear(x, groups, weights, y);
  }
  void RmsNorm(const Tensor& x, const Tensor& w, float eps, const Tensor& y) override {
    const Noted noted(*this, Op::kRmsNorm, x.rows);
    inner_->RmsNorm(x, w, eps, y);
  }
  void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& y) override {
    const Noted noted(*this, Op::kSwiGlu, y.rows);
    inner_->SwiGlu(gate, up, y);
  }
  void Add(const Tensor& x, const Tensor& y) override {
    const Noted noted(*this, Op::kAdd, y.rows);
    inner_->Add(x, y);
  }
  void CopyRows(const Tensor& x, std::span<const int64_t> source, const Tensor& y) override {
    const Noted noted(*this, Op::kCopyRows, y.rows);
    inner_->CopyRows(x, source, y);
  }
  void TakeRows(const Tensor& x, const Tensor& rows, const Tensor& y) override {
    const Noted noted(*this, Op::kTakeRows, y.rows);
    inner_->TakeRows(x, rows, y);
  }
  void QuantizeRows(const Tensor& x, const Tensor& rows) override {
    const Noted noted(*this, Op::kQuantizeRows, x.rows);
    inner_->QuantizeRows(x, rows);
  }
  void DequantizeRows(const Tensor& rows, const Tensor& y) override {
    const Noted noted(*this, Op::kDequantizeRows, y.rows);
    inner_->DequantizeRows(rows, y);
  }
  void RopeAngles(std::span<const RowPlace> places, std::span<const float> inv_freq,
                  const Tensor& out) override {
    const Noted noted(*this, Op::kRopeAngles, out.rows);
    inner_->RopeAngles(places, inv_freq, out);
  }
  void AbsorbQuery(const AttentionShape& shape, const Tensor& q, const WeightGroup& up_keys,
                   const Tensor& angles, const Tensor& q_latent) override {
    const Noted noted(*this, Op::kAbsorbQuery, q.rows);
    inner_->AbsorbQuery(shape, q, up_keys, angles, q_latent);
  }
  void LatentRows(const AttentionShape& shape, const Tensor& kv, const Tensor& norm, float eps,
                  const Tensor& angles, const Tensor& rows) override {
    const Noted noted(*this, Op::kLatentRows, kv.rows);
    inner_->LatentRows(shape, kv, norm, eps, angles, rows);
  }
  void ValueUp(const AttentionShape& shape, const Tensor& o_latent, const WeightGroup& up_values,
               const Tensor& o) override {
    const Noted noted(*this, Op::kValueUp, o.rows);
    inner_->ValueUp(shape, o_latent, up_values, o);
  }
  void SparseAttention(const AttentionShape& shape, const Tensor& q_latent, const PagedCache& latents,
                       std::span<const RowPlace> places, std::span<const PageTable> pages,
                       const Tensor& selection, float scale, const Tensor& o_latent) override {
    const Noted noted(*this, Op::kSparseAttention, q_latent.rows);
    inner_->SparseAttention(shape, q_latent, latents, places, pages, selection, scale, o_latent);
  }
  void IndexQueries(const IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                    const Tensor& angles, const Tensor& queries, const Tensor& gates) override {
    const Noted noted(*this, Op::kIndexQueries, q.rows);
    inner_->IndexQueries(shape, q, gate_logits, angles, queries, gates);
  }
  void IndexKeyRows(const IndexerShape& shape, const Tensor& k, const Tensor& weight, const Tensor& bias,
                    const Tensor& angles, const Tensor& rows) override {
    const Noted noted(*this, Op::kIndexKeyRows, k.rows);
    inner_->IndexKeyRows(shape, k, weight, bias, angles, rows);
  }
  void SelectKeys(const IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                  const PagedCache& index_keys, std::span<const RowPlace> places,
                  std::span<const PageTable> pages, const Tensor& selection) override {
    const Noted noted(*this, Op::kSelectKeys, queries.rows);
    inner_->SelectKeys(shape, queries, gates, index_keys, places, pages, selection);
  }
  void WriteLatents(const Tensor& rows, std::span<const RowPlace> places, std::span<const PageTable> pages,
                    const PagedCache& latents) override {
    const Noted noted(*this, Op::kWriteLatents, rows.rows);
    inner_->WriteLatents(rows, places, pages, latents);
  }
  void WriteIndexKeys(const Tensor& rows, std::span<const RowPlace> places, std::span<const PageTable> pages,
                      const PagedCache& index_keys) override {
    const Noted noted(*this, Op::kWriteIndexKeys, rows.rows);
    inner_->WriteIndexKeys(rows, places, pages, index_keys);
  }
  void Route(const RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
             const Tensor& weights) override {
    const Noted noted(*this, Op::kRoute, logits.rows);
    inner_->Route(shape, logits, bias, ids, weights);
  }
  void PlanExperts(const Tensor& ids, int64_t first_expert, const ExpertPlan& plan) override {
    const Noted noted(*this, Op::kPlanExperts, ids.rows);
    inner_->PlanExperts(ids, first_expert, plan);
  }
  void SumExperts(const Tensor& y, const Tensor& pairs, const ExpertChoices& choices,
                  const ExpertLeaves& leaves, std::span<const Subtree> subtrees,
                  const Tensor& nodes) override {
    const Noted noted(*this, Op::kSumExperts, pairs.rows);
    inner_->SumExperts(y, pairs, choices, leaves, subtrees, nodes);
  }
  void JoinSubtrees(const Tensor& nodes, const Tensor& ids, const ExpertLeaves& leaves,
                    std::span<const SubtreeRows> subtrees, const Tensor& out) override {
    const Noted noted(*this, Op::kJoinSubtrees, out.rows);
    inner_->JoinSubtrees(nodes, ids, leaves, subtrees, out);
  }
  void SumTerms(const Tensor& y, std::span<const ExpertTerm> terms, std::span<const int64_t> offsets,
                const Tensor& out) override {
    const Noted noted(*this, Op::kSumTerms, out.rows);
    inner_->SumTerms(y, terms, offsets, out);
  }
  void JoinNodes(std::span<const NodeJoin> joins, const Tensor& nodes) override {
    const Noted noted(*this, Op::kJoinNodes, std::ssize(joins));
    inner_->JoinNodes(joins, nodes);
  }
  std::vector<Sampled> Sample(const Tensor& logits, std::span<const SamplingParams> params,
                              std::span<const LogitAdjust> adjusts,
                              std::span<const int64_t> positions) override {
    const Noted noted(*this, Op::kSample, logits.rows);
    return inner_->Sample(logits, params, adjusts, positions);
  }
  std::vector<Sampled> Logprobs(const Tensor& logits, std::span<const int32_t> targets,
                                int32_t top) override {
    const Noted noted(*this, Op::kLogprobs, logits.rows);
    return inner_->Logprobs(logits, targets, top);
  }

 private:
  // Notes an op from construction to destruction.
  class Noted {
   public:
    Noted(TracedOps& ops, Op op, int64_t rows)
        : recorder_(ops.recorder_),
          name_(ops.ids_[static_cast<size_t>(op)]),
          rows_(rows),
          begin_ns_(NowNs()) {}
    ~Noted() { recorder_.NoteOp(name_, begin_ns_, rows_); }
    Noted(const Noted&) = delete;
    Noted& operator=(const Noted&) = delete;

   private:
    trace::Recorder& recorder_;
    const uint16_t name_;
    const int64_t rows_;
    const int64_t begin_ns_;
  };

  const std::unique_ptr<Ops> inner_;
  trace::Recorder& recorder_;
  std::array<uint16_t, static_cast<size_t>(Op::kCount)> ids_{};
};

}  // namespace

std::unique_ptr<Ops> MakeTraced(std::unique_ptr<Ops> inner, trace::Recorder& recorder) {
  return std::make_unique<TracedOps>(std::move(inner), recorder);
}

}  // namespace sluice::ops
