#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>

#include "bench/json.h"
#include "bench/serving_metrics.h"

// For tests: what tests/golden/bench/make_vectors.py wrote.
namespace sluice::bench {

inline std::string GoldenText(const std::string& name) {
  std::ifstream file(std::string(SLUICE_SOURCE_DIR) + "/tests/golden/bench/" + name);
  EXPECT_TRUE(file) << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline Json TestVectors() { return Json::parse(GoldenText("vectors.json")); }

// Equal but for the rounding of a few additions in double.
inline testing::AssertionResult Close(double actual, double expected) {
  if (std::abs(actual - expected) <= 1e-12 * std::max(1.0, std::abs(expected)))
    return testing::AssertionSuccess();
  return testing::AssertionFailure() << actual << " is not " << expected;
}

inline void ExpectSummary(const Summary& summary, const Json& expected) {
  EXPECT_TRUE(Close(summary.mean, expected["mean"]));
  EXPECT_TRUE(Close(summary.median, expected["median"]));
  EXPECT_TRUE(Close(summary.std, expected["std"]));
  EXPECT_TRUE(Close(summary.p90, expected["p90"]));
  EXPECT_TRUE(Close(summary.p95, expected["p95"]));
  EXPECT_TRUE(Close(summary.p99, expected["p99"]));
  EXPECT_TRUE(Close(summary.max, expected["max"]));
}

inline std::vector<RequestRecord> RecordsOf(const Json& list) {
  std::vector<RequestRecord> records;
  for (const Json& entry : list) {
    RequestRecord record;
    record.prompt_tokens = entry["prompt_tokens"];
    record.output_tokens = entry["output_tokens"];
    record.start_ns = entry["start_ns"];
    record.chunk_ns = entry["chunk_ns"].get<std::vector<int64_t>>();
    record.end_ns = entry["end_ns"];
    record.error = entry["error"];
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace sluice::bench
