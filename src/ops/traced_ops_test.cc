#include "ops/traced_ops.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <new>

#include "ops/reference/reference_ops.h"
#include "ops/wrapped_ops.h"

// Counts what this thread allocates. Not inlined: GCC 12 then takes malloc and delete for a mismatch.
namespace {
thread_local int64_t allocations = 0;
}  // namespace
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace sluice::ops {
namespace {

// Computes nothing.
class IdleOps final : public WrappedOps {
 public:
  IdleOps() : WrappedOps(MakeReferenceOps(Numerics::kFp8)) {}

 protected:
  void Around(const char*, int64_t, FunctionRef<void()>) override {}
};

// The same numbers as without, and one event for each op, in its place.
TEST(TracedOps, NotesEveryOpAndChangesNone) {
  trace::Recorder recorder(0);
  const auto plain = MakeReferenceOps(Numerics::kExact);
  const auto traced = MakeTraced(MakeReferenceOps(Numerics::kExact), recorder);
  EXPECT_EQ(traced->numerics(), Numerics::kExact);
  EXPECT_STREQ(traced->name(), plain->name());
  recorder.SetPlace({5, 1, 9});
  std::vector<float> x{1, 2, 3, 4, 5, 6};
  std::vector<float> y{10, 20, 30, 40, 50, 60};
  std::vector<float> wanted = y;
  const auto tensor = [](std::vector<float>& values) { return Tensor{values.data(), DType::kF32, 2, 3, 3}; };
  const int64_t before = NowNs();
  traced->Add(tensor(x), tensor(y));
  traced->Finish();  // nothing to wait for
  traced->SwiGlu(tensor(x), tensor(x), tensor(y));
  const int64_t after = NowNs();
  plain->Add(tensor(x), tensor(wanted));
  plain->SwiGlu(tensor(x), tensor(x), tensor(wanted));
  EXPECT_EQ(y, wanted);
  const trace::RankEvents noted = recorder.Events();
  ASSERT_EQ(noted.events.size(), 2U);
  EXPECT_EQ(noted.names[noted.events[0].name], "Add");
  EXPECT_EQ(noted.names[noted.events[1].name], "SwiGlu");
  int64_t last = before;
  for (const trace::Event& event : noted.events) {
    EXPECT_EQ(event.kind, trace::EventKind::kOp);
    EXPECT_EQ(event.step, 5);
    EXPECT_EQ(event.pass, 1);
    EXPECT_EQ(event.layer, 9);
    EXPECT_EQ(event.amount, 2);
    EXPECT_GE(event.begin_ns, last);
    EXPECT_GE(event.end_ns, event.begin_ns);
    last = event.end_ns;
  }
  EXPECT_LE(last, after);
}

// Ops with few arguments and with many, those that return something among them; the first of each as well.
TEST(TracedOps, AllocatesNothing) {
  trace::Recorder recorder(0);
  const auto traced = MakeTraced(std::make_unique<IdleOps>(), recorder);
  std::array<float, 4> values{};
  const Tensor x{values.data(), DType::kF32, 2, 2, 2};
  const Weight weight(2, 2, false);
  const RowPlace places[2];
  const PageTable pages[1];
  const SamplingParams params[2];
  const LogitAdjust adjusts[2];
  const int64_t positions[2] = {};
  const int64_t before = allocations;
  for (int i = 0; i < 2; ++i) {
    traced->Linear(x, weight, x);
    traced->SparseAttention({}, x, {}, places, pages, x, 1.0F, x);
    traced->SelectKeys({}, x, x, {}, places, pages, x);
    traced->SumExperts(x, x, {x, x}, {}, {}, x);
    traced->Sample(x, params, adjusts, positions);
  }
  EXPECT_EQ(allocations, before);
  const std::unique_ptr<int> counted(new int(1));
  EXPECT_EQ(allocations, before + 1);
  EXPECT_EQ(recorder.Events().events.size(), 10U);
}

// Of a grouped linear the rows that some expert has, not the room for them.
TEST(TracedOps, NotesTheRowsOfGroups) {
  trace::Recorder recorder(0);
  const auto traced = MakeTraced(std::make_unique<IdleOps>(), recorder);
  std::array<int32_t, 9> groups{0, 3, 0, 3, 3, 1, 3, 7, 2};
  const Tensor x{nullptr, DType::kBF16, 100, 8, 8};
  traced->GroupedLinear(x, {groups.data(), DType::kI32, 3, 3, 3}, WeightGroup(3, 8, 8, {true, false}), x);
  ASSERT_EQ(recorder.Events().events.size(), 1U);
  EXPECT_EQ(recorder.Events().events[0].amount, 7);
}

}  // namespace
}  // namespace sluice::ops
