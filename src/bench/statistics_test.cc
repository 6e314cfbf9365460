#include "bench/statistics.h"

#include <gtest/gtest.h>

#include "bench/test_vectors.h"

namespace sluice::bench {
namespace {

// What NumPy has for the same values (tests/golden/bench/make_vectors.py). Sums are taken in another order.
TEST(Statistics, AreNumPys) {
  const Json vectors = TestVectors();
  const auto percents = vectors["percents"].get<std::vector<double>>();
  for (const Json& entry : vectors["statistics"]) {
    const auto values = entry["values"].get<std::vector<double>>();
    for (size_t i = 0; i < percents.size(); ++i) {
      EXPECT_TRUE(Close(Percentile(values, percents[i]), entry["percents"][i])) << percents[i];
    }
    ExpectSummary(SummaryOf(values), entry);
    EXPECT_TRUE(Close(Mean(values), entry["mean"]));
    EXPECT_TRUE(Close(StandardDeviation(values), entry["std"]));
  }
}

TEST(Statistics, OfNothingAreZero) {
  EXPECT_EQ(Mean({}), 0.0);
  EXPECT_EQ(StandardDeviation({}), 0.0);
  EXPECT_EQ(Percentile({}, 99.0), 0.0);
  EXPECT_EQ(SummaryOf({}).max, 0.0);
}

}  // namespace
}  // namespace sluice::bench
