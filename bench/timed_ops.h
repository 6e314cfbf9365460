#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "gpu_event.h"
#include "ops/cuda/stream.h"
#include "ops/wrapped_ops.h"
#include "tensor/tensor.h"

namespace sluice::bench {

// How ops are timed, by events on their stream.
//   kInPlace   a pair around each as it comes; what lies between pairs is a gap
//   kIsolated  each alone on the device, its kernels back to back: they are enqueued behind a gate that is
//              opened when all of them are there; less what two events take with nothing between them
enum class Timing { kNone, kInPlace, kIsolated };

struct TimedCall {
  std::string op;  // linears with their [outputs, inputs]
  double ms = 0.0;
  // kInPlace: since the call before, and whether the lanes exchanged rows meanwhile.
  double gap_ms = 0.0;
  bool after_exchange = false;
};

// The ops of the CUDA back end, timed one by one. What an FP8 linear takes to quantise rows that do not come
// quantised is a call of its own where ops are isolated ("quantisation in linears"): the same kernel is timed
// beforehand, and the linear's time is less that.
class TimedOps final : public ops::WrappedOps {
 public:
  explicit TimedOps(std::unique_ptr<ops::Ops> cuda_ops);
  ~TimedOps() override;

  void Begin(Timing timing);
  // Of the calls since Begin, in order; ops are no longer timed.
  std::vector<TimedCall> End();
  // The lanes exchange rows now.
  void NoteExchange() { exchanged_ = true; }

  void Linear(const ops::Activation& x, const ops::Weight& w, const Tensor& y) override;
  void GroupedLinear(const ops::Activation& x, const Tensor& groups, const ops::WeightGroup& weights,
                     const Tensor& y) override;

 protected:
  void Around(const char* op, int64_t rows, FunctionRef<void()> run) override;

 private:
  struct InPlace {
    Event begin, end;
  };
  double IsolatedMs(FunctionRef<void()> run);
  void TimeQuantisation(const ops::Activation& rows);

  ops::cuda::Stream& stream_;
  Timing timing_ = Timing::kNone;
  std::vector<TimedCall> calls_;
  std::vector<std::unique_ptr<InPlace>> events_;  // of the calls in place
  std::string name_;                              // of the next call; empty: the op's
  double quantisation_ms_ = 0.0;                  // of the next call
  bool exchanged_ = false;
  ops::cuda::Gate* gate_ = nullptr;  // shut
  Event begin_, end_;
  double empty_ms_ = 0.0;  // between two events with nothing between them
  Buffer scratch_;
};

}  // namespace sluice::bench
