#include "base/compute_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

namespace sluice {
namespace {

TEST(ComputePool, RunsEveryIndexOnce) {
  for (int workers : {0, 1, 3}) {
    ComputePool pool(workers);
    std::vector<std::atomic<int>> visits(1000);
    pool.ParallelFor(1000, [&](int64_t i) { visits[i]++; });
    for (const auto& count : visits) EXPECT_EQ(count.load(), 1) << workers << " workers";
  }
}

TEST(ComputePool, RanksShareItConcurrently) {
  ComputePool pool(2);
  std::vector<int64_t> sums(4);
  std::vector<std::thread> ranks;
  ranks.reserve(4);
  for (int rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([&, rank] {
      for (int repeat = 0; repeat < 100; ++repeat) {
        std::atomic<int64_t> sum{0};
        pool.ParallelFor(50, [&](int64_t i) { sum += i; });
        sums[rank] += sum.load();
      }
    });
  }
  for (auto& rank : ranks) rank.join();
  for (int64_t sum : sums) EXPECT_EQ(sum, 100 * (49 * 50 / 2));
}

TEST(ComputePool, AnExceptionReachesTheCallerAfterAllAreDone) {
  ComputePool pool(1);
  std::atomic<int> ran{0};
  EXPECT_THROW(pool.ParallelFor(64,
                                [&](int64_t i) {
                                  ++ran;
                                  if (i == 7) throw std::runtime_error("seven");
                                }),
               std::runtime_error);
  EXPECT_EQ(ran.load(), 64);
}

}  // namespace
}  // namespace sluice
