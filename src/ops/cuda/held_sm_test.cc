#include "ops/cuda/held_sm.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/clock.h"
#include "ops/cuda/device.h"
#include "ops/cuda/on_device.h"

namespace sluice::ops::cuda {
namespace {

bool Becomes(const HeldSm& held, bool occupied) {
  const Deadline deadline = Clock::now() + std::chrono::seconds(1);
  while (held.Occupied() != occupied && Clock::now() < deadline) std::this_thread::yield();
  return held.Occupied() == occupied;
}

TEST(HeldSm, IsHeldFromTheFirstWhoWantsItToTheLast) {
  if (!HasGpu()) GTEST_SKIP() << "no GPU";
  HeldSm held;
  EXPECT_FALSE(held.Occupied());
  for (int round = 0; round < 3; ++round) {
    held.Begin();
    EXPECT_TRUE(Becomes(held, true));
    held.Begin();
    held.End();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(held.Occupied());
    EXPECT_EQ(cudaStreamQuery(held.stream()), cudaErrorNotReady);
    held.End();
    EXPECT_TRUE(Becomes(held, false));
  }
}

TEST(HeldSm, EndsByItself) {
  if (!HasGpu()) GTEST_SKIP() << "no GPU";
  HeldSm held;
  held.Begin();
  const Deadline begin = Clock::now();
  Must(cudaStreamSynchronize(held.stream()));
  EXPECT_LT(Clock::now() - begin, 2 * Duration(HeldSm::kLongestNs));
  held.End();
}

}  // namespace
}  // namespace sluice::ops::cuda
