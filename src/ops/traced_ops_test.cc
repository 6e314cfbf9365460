#include "ops/traced_ops.h"

#include <gtest/gtest.h>

#include "ops/reference/reference_ops.h"

namespace sluice::ops {
namespace {

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

}  // namespace
}  // namespace sluice::ops
