#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/cuda/check.h"
#include "ops/cuda/draw_tokens.h"
#include "ops/cuda/gemm.h"
#include "ops/cuda/graphs.h"
#include "ops/cuda/index_scores_kernel.h"
#include "ops/cuda/packed_weights.h"
#include "ops/cuda/pass_lists.h"
#include "ops/cuda/quantize_rows.h"
#include "ops/cuda/sampling.h"
#include "ops/cuda/staging.h"
#include "ops/cuda/stream.h"
#include "ops/ops.h"
#include "tensor/upload.h"

namespace sluice::ops::cuda {

// The ops of one rank on one GPU; each enqueues on the rank's stream and returns. Spread over back_end.cc
// (weights, projections, elementwise), back_end_attention.cc (rotary positions, caches, attention, indexer),
// back_end_experts.cc (router, sums) and back_end_sampling.cc.
class CudaOps final : public Ops {
 public:
  explicit CudaOps(int device);
  ~CudaOps() override;
  const char* name() const override { return "cuda"; }
  Numerics numerics() const override { return Numerics::kFp8; }
  Memory& memory() override { return memory_; }
  void Finish() override;
  std::unique_ptr<StreamMark> Mark() override;
  void FinishUpTo(const StreamMark* mark) override;
  WorkStream* stream() override { return &stream_; }
  void SetSmBudget(SmBudget budget) override { budget_ = budget; }
  void Reserve(const OpLimits& limits) override;
  bool HasGraphs() const override { return true; }
  void RecordGraph(int64_t key) override;
  void LaunchGraph(int64_t key) override;
  void EndGraph() override;

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

  // The scoring kernel's launches since the start. Waits for what is enqueued.
  LaunchRecord ScoringLaunches();
  // Pieces of graphs that were launched, and ops that were enqueued one by one, since the start.
  int64_t graph_launches() const { return graphs_.launches(); }
  int64_t ops_enqueued() const { return ops_enqueued_; }
  // Lists that were brought to the device and answers that were brought back, since the start.
  int64_t copies() const { return staging_.copies() + answers_brought_; }

 private:
  Upload& upload();

  // Places and page tables of an op in device memory.
  struct PlacesOnDevice {
    const int32_t* sequences = nullptr;    // [T]
    const int32_t* positions = nullptr;    // [T]
    const int32_t* page_tables = nullptr;  // [sequence, table_stride]
    int64_t table_stride = 0;
  };
  static int64_t StagedBytes(std::span<const RowPlace> places, std::span<const PageTable> pages);
  // Within what is reserved already. In a recorded pass the same spans are brought once.
  PlacesOnDevice PutPlaces(std::span<const RowPlace> places, std::span<const PageTable> pages);

  // Every op goes through one of these: it is enqueued, or recorded, or known to be in the graph that is
  // being launched. `out`: what it writes. A failure is told by `what`, its name and shapes.
  template <typename Work, typename... Args>
  void Run(const Work& work, const void* out, fmt::format_string<Args...> what, Args&&... args) {
    RunAs([&] { return Enqueue(work, stream_); }, out, what, std::forward<Args>(args)...);
  }
  // A persistent kernel.
  template <typename Work, typename... Args>
  void RunTiles(const Work& work, const void* out, fmt::format_string<Args...> what, Args&&... args) {
    RunAs([&] { return Enqueue(work, NextCounter(), Blocks(), stream_); }, out, what,
          std::forward<Args>(args)...);
  }
  template <typename Enqueuing, typename... Args>
  void RunAs(const Enqueuing& enqueue, const void* out, fmt::format_string<Args...> what, Args&&... args) {
    if (!graphs_.Enqueues(out)) return;
    if (!graphs_.Active()) ++ops_enqueued_;
    Check(enqueue(), what, std::forward<Args>(args)...);
  }

  // Lists of an op, as Staging has them; in a recorded pass each has a place of its own.
  void ReserveLists(int64_t bytes, int lists) {
    if (!graphs_.Active()) staging_.Reserve(bytes, lists);
  }
  template <typename T>
  const T* Put(std::span<const T> values) {
    if (!graphs_.Active()) return staging_.Put(values);
    return reinterpret_cast<const T*>(pass_lists_.Put(std::as_bytes(values)));
  }
  template <typename T>
  const T* Put(const std::vector<T>& values) {
    return Put(std::span<const T>(values));
  }

  // y = x W^T for the rows of each group, or for all with weight 0 (groups null). K inputs.
  void Multiply(const Activation& x, int64_t inputs, const PackedWeights& weights, int64_t weight_count,
                const Tensor* groups, const Tensor& y);
  // The codes and scales of x: its quantised form, or values quantised into the workspace.
  QuantizedRows Quantized(const Activation& x, int64_t inputs);
  // With a delta x += delta first.
  void Norm(const Tensor* delta, const Tensor& x, const Tensor& w, float eps, const Activation& y);
  // y_h = x_h W_h^T for each head h of a row; heads lie `x_step` and `y_step` columns apart.
  void MultiplyHeads(const char* op, const Tensor& x, int64_t x_step, const WeightGroup& weights,
                     const Tensor& y, int64_t y_step);
  // What is wanted of each row, with the tokens of those that are drawn; adjusts by Draw::adjusted_row. Waits
  // for it.
  std::vector<Sampled> ReadOut(const Tensor& logits, std::span<const WantedOfRow> wanted,
                               std::span<const Draw> draws, std::span<const LogitAdjust* const> adjusted);
  void AdjustLogits(const Tensor& logits, std::span<const Draw> draws,
                    std::span<const LogitAdjust* const> adjusted, float* to);
  void ReserveAnswers(int64_t bytes);
  void CheckScores() const;
  // Device memory for the inside of one op; what an earlier op put there is gone. Throws Error(kInternal)
  // beyond what was reserved.
  std::byte* Workspace(int64_t bytes);
  // What an op may ask of it that can do with less.
  int64_t WorkspaceRoom() const;
  TileCounter NextCounter();
  // The grid of a persistent kernel.
  int Blocks() const { return budget_.Left(sms_); }

  Memory& memory_;  // the first to be made: it chooses the device
  Stream stream_;
  const int sms_;  // of the device
  SmBudget budget_;
  std::unique_ptr<Upload> upload_;  // while weights are packed
  Staging staging_;
  PassLists pass_lists_{memory_, staging_};
  Graphs graphs_{stream_, [this] { pass_lists_.Bring(); }};
  // Of the recorded pass: what was brought already.
  struct Brought {
    std::span<const RowPlace> places;
    std::span<const PageTable> pages;
    PlacesOnDevice at;
  };
  std::vector<Brought> brought_;
  int64_t most_positions_ = 0;  // of a sequence, in a recorded pass
  int64_t ops_enqueued_ = 0;
  int64_t answers_brought_ = 0;
  Buffer workspace_;
  Buffer answers_;         // pinned: what sampling brings back
  bool reserved_ = false;  // workspace_, answers_ and staging_ grow no more
  Buffer counters_;
  Buffer scoring_counter_;  // 0 between launches
  Buffer published_;        // of sparse attention (sparse_attention.h); 0 between launches
  int64_t next_counter_ = 0;
  Buffer scoring_launches_;  // a LaunchRecord
  // Of SelectKeys, (row, position) of a score that is no number, written by the device into the host's
  // memory; row -1: none.
  int32_t* not_a_number_ = nullptr;
};

}  // namespace sluice::ops::cuda
