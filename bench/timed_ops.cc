#include "timed_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "ops/cuda/check.h"
#include "ops/cuda/quantize_rows.h"

namespace sluice::bench {

TimedOps::TimedOps(std::unique_ptr<ops::Ops> cuda_ops)
    : WrappedOps(std::move(cuda_ops)), stream_(dynamic_cast<ops::cuda::Stream&>(*inner().stream())) {
  // An op that waits for its stream, as when its lists are full, would wait for the gate.
  stream_.SetBeforeFinish([this] {
    if (gate_ != nullptr) gate_->Open();
  });
  std::vector<double> empty;
  for (int i = 0; i < 9; ++i) empty.push_back(IsolatedMs([] {}));
  std::ranges::nth_element(empty, empty.begin() + 4);
  empty_ms_ = empty[4];
}

TimedOps::~TimedOps() { stream_.SetBeforeFinish(nullptr); }

void TimedOps::Begin(Timing timing) {
  inner().Finish();
  timing_ = timing;
  calls_.clear();
  exchanged_ = false;
}

std::vector<TimedCall> TimedOps::End() {
  inner().Finish();
  for (size_t i = 0; timing_ == Timing::kInPlace && i < calls_.size(); ++i) {
    calls_[i].ms = events_[i]->end.MsSince(events_[i]->begin);
    if (i > 0) calls_[i].gap_ms = events_[i]->begin.MsSince(events_[i - 1]->end);
  }
  timing_ = Timing::kNone;
  return std::exchange(calls_, {});
}

void TimedOps::Linear(const ops::Activation& x, const ops::Weight& w, const Tensor& y) {
  if (timing_ != Timing::kNone) name_ = fmt::format("Linear [{}, {}]", w.rows(), w.cols());
  if (w.is_fp8()) TimeQuantisation(x);
  WrappedOps::Linear(x, w, y);
}

void TimedOps::GroupedLinear(const ops::Activation& x, const Tensor& groups, const ops::WeightGroup& weights,
                             const Tensor& y) {
  if (timing_ != Timing::kNone) {
    name_ = fmt::format("GroupedLinear {} x [{}, {}]", weights.count(), weights.rows(), weights.cols());
  }
  if (weights.reads().quantized) TimeQuantisation(x);
  WrappedOps::GroupedLinear(x, groups, weights, y);
}

void TimedOps::Around(const char* op, int64_t, FunctionRef<void()> run) {
  if (timing_ == Timing::kNone) return run();
  TimedCall call{name_.empty() ? op : std::exchange(name_, "")};
  call.after_exchange = std::exchange(exchanged_, false);
  if (timing_ == Timing::kInPlace) {
    if (calls_.size() == events_.size()) events_.push_back(std::make_unique<InPlace>());
    InPlace& at = *events_[calls_.size()];
    at.begin.Record(stream_);
    run();
    at.end.Record(stream_);
  } else {
    const double quantisation = std::exchange(quantisation_ms_, 0.0);
    call.ms = IsolatedMs(run) - quantisation;
    if (quantisation > 0.0) calls_.push_back({"quantisation in linears", quantisation});
  }
  calls_.push_back(std::move(call));
}

double TimedOps::IsolatedMs(FunctionRef<void()> run) {
  ops::cuda::Gate gate;
  gate_ = &gate;
  {
    // Opened whatever happens.
    const struct Opening {
      ops::cuda::Gate*& gate;
      ~Opening() {
        gate->Open();
        gate = nullptr;
      }
    } opening{gate_};
    stream_.WaitFor(gate);
    begin_.Record(stream_);
    run();
    end_.Record(stream_);
  }
  inner().Finish();
  return std::max(0.0, end_.MsSince(begin_) - empty_ms_);
}

void TimedOps::TimeQuantisation(const ops::Activation& rows) {
  const Tensor& x = rows.values;
  if (timing_ != Timing::kIsolated || rows.forms().quantized || x.rows == 0) return;
  const int64_t blocks = CeilDiv(x.cols, ops::kQuantBlock);
  const int64_t codes = CeilDiv(x.rows * x.cols, 256) * 256;
  const int64_t bytes = codes + x.rows * blocks * SizeOf(DType::kF32);
  if (scratch_.bytes() < bytes) {
    scratch_ = Buffer();
    scratch_ = Buffer(bytes, memory());
  }
  auto* scales = reinterpret_cast<float*>(scratch_.data() + codes);
  const ops::cuda::QuantizeRows work{
      x.rows, x.cols, x.data, x.stride, {scratch_.data(), x.cols, scales, blocks}};
  quantisation_ms_ = IsolatedMs(
      [&] { ops::cuda::Check(Enqueue(work, stream_), "quantising {} rows of {}", x.rows, x.cols); });
}

}  // namespace sluice::bench
