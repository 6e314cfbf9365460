#include "ops/traced_ops.h"

#include <utility>

#include "ops/wrapped_ops.h"

namespace sluice::ops {
namespace {

class TracedOps final : public WrappedOps {
 public:
  TracedOps(std::unique_ptr<Ops> inner, trace::Recorder& recorder)
      : WrappedOps(std::move(inner)), recorder_(recorder) {}

  // Nothing to wait for is not an op.
  void Finish() override {
    if (stream() == nullptr) return WrappedOps::Finish();
    Around("Finish", 0, [&] { WrappedOps::Finish(); });
  }
  void FinishUpTo(const StreamMark* mark) override {
    if (stream() == nullptr) return WrappedOps::FinishUpTo(mark);
    Around("Finish", 0, [&] { WrappedOps::FinishUpTo(mark); });
  }

 protected:
  void Around(const char* op, int64_t rows, FunctionRef<void()> run) override {
    const Noted noted{recorder_, recorder_.NameId(op), rows, NowNs()};
    run();
  }

 private:
  // Notes an op when it ends, which it does by an exception as well.
  struct Noted {
    trace::Recorder& recorder;
    const uint16_t name;
    const int64_t rows;
    const int64_t begin_ns;
    ~Noted() { recorder.NoteOp(name, begin_ns, rows); }
  };

  trace::Recorder& recorder_;
};

}  // namespace

std::unique_ptr<Ops> MakeTraced(std::unique_ptr<Ops> inner, trace::Recorder& recorder) {
  return std::make_unique<TracedOps>(std::move(inner), recorder);
}

}  // namespace sluice::ops
