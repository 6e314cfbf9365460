#pragma once

#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "ops/ops.h"

namespace sluice::pipe {

// A back end that computes nothing: every pass of a rank takes the time it is told to, asleep. The model asks
// for the rotary angles of its rows once in a pass, and there the pass sleeps until its begin plus its time
// on the absolute clock. Every token sampled is token 1.
class SleepingOps final : public ops::Ops {
 public:
  // time: of the pass whose first own row is at this position.
  using TimeOf = std::function<Duration(int64_t position)>;
  SleepingOps(ops::Numerics numerics, TimeOf time) : numerics_(numerics), time_(std::move(time)) {}

  const char* name() const override { return "sleeping"; }
  ops::Numerics numerics() const override { return numerics_; }
  std::unique_ptr<ops::Weight> Pack(const ops::RawMatrix& raw) override {
    return std::make_unique<ops::Weight>(raw.rows, raw.cols, false);
  }
  std::unique_ptr<ops::WeightGroup> PackGroup(std::span<const ops::RawMatrix> raws) override {
    return std::make_unique<ops::WeightGroup>(std::ssize(raws), raws[0].rows, raws[0].cols,
                                              ops::Forms{true, false});
  }
  void RopeAngles(std::span<const ops::RowPlace> places, std::span<const float>, const Tensor&) override {
    const Deadline begin = Clock::now();
    if (!places.empty()) std::this_thread::sleep_until(begin + time_(places.front().position));
  }
  // Which experts a row is sent to decides where it travels: always the first ones.
  void Route(const ops::RouterShape&, const Tensor& logits, const Tensor&, const Tensor& ids,
             const Tensor&) override {
    for (int64_t row = 0; row < logits.rows; ++row) {
      for (int64_t k = 0; k < ids.cols; ++k) ids.At<int32_t>(row, k) = static_cast<int32_t>(k);
    }
  }
  std::vector<ops::Sampled> Sample(const Tensor& logits, std::span<const ops::SamplingParams>,
                                   std::span<const ops::LogitAdjust>, std::span<const int64_t>) override {
    return std::vector<ops::Sampled>(static_cast<size_t>(logits.rows), ops::Sampled{1, 0.0F, {}});
  }
  std::vector<ops::Sampled> Logprobs(const Tensor& logits, std::span<const int32_t>, int32_t) override {
    return std::vector<ops::Sampled>(static_cast<size_t>(logits.rows));
  }

  void Embed(const Tensor&, int64_t, std::span<const int32_t>, const Tensor&) override {}
  void Linear(const ops::Activation&, const ops::Weight&, const Tensor&) override {}
  void GroupedLinear(const ops::Activation&, const Tensor&, const ops::WeightGroup&, const Tensor&) override {
  }
  void RmsNorm(const Tensor&, const Tensor&, float, const ops::Activation&) override {}
  void AddRmsNorm(const Tensor&, const Tensor&, const Tensor&, float, const ops::Activation&) override {}
  void SwiGlu(const Tensor&, const Tensor&, const ops::Activation&) override {}
  void Add(const Tensor&, const Tensor&) override {}
  void CopyRows(const Tensor&, std::span<const int64_t>, const Tensor&) override {}
  void TakeRows(const Tensor&, const Tensor&, const Tensor&) override {}
  void AbsorbQuery(const ops::AttentionShape&, const Tensor&, const ops::WeightGroup&, const Tensor&,
                   const Tensor&) override {}
  void LatentRows(const ops::AttentionShape&, const Tensor&, const Tensor&, float, const Tensor&,
                  const Tensor&) override {}
  void ValueUp(const ops::AttentionShape&, const Tensor&, const ops::WeightGroup&, const Tensor&) override {}
  void SparseAttention(const ops::AttentionShape&, const Tensor&, const ops::PagedCache&,
                       std::span<const ops::RowPlace>, std::span<const ops::PageTable>, const Tensor&, float,
                       const Tensor&) override {}
  void IndexQueries(const ops::IndexerShape&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                    const Tensor&) override {}
  void IndexKeyRows(const ops::IndexerShape&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                    const Tensor&) override {}
  void SelectKeys(const ops::IndexerShape&, const Tensor&, const Tensor&, const ops::PagedCache&,
                  std::span<const ops::RowPlace>, std::span<const ops::PageTable>, const Tensor&) override {}
  void WriteLatents(const Tensor&, std::span<const ops::RowPlace>, std::span<const ops::PageTable>,
                    const ops::PagedCache&) override {}
  void WriteIndexKeys(const Tensor&, std::span<const ops::RowPlace>, std::span<const ops::PageTable>,
                      const ops::PagedCache&) override {}
  void PlanExperts(const Tensor&, int64_t, const ops::ExpertPlan&) override {}
  void SumExperts(const Tensor&, const Tensor&, const ops::ExpertChoices&, const ops::ExpertLeaves&,
                  std::span<const ops::Subtree>, const Tensor&) override {}
  void JoinSubtrees(const Tensor&, const Tensor&, const ops::ExpertLeaves&, std::span<const ops::SubtreeRows>,
                    const Tensor&) override {}
  void SumTerms(const Tensor&, std::span<const ops::ExpertTerm>, std::span<const int64_t>,
                const Tensor&) override {}
  void JoinNodes(std::span<const ops::NodeJoin>, const Tensor&) override {}

 private:
  const ops::Numerics numerics_;
  const TimeOf time_;
};

}  // namespace sluice::pipe
