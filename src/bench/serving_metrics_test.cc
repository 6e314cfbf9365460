#include "bench/serving_metrics.h"

#include <gtest/gtest.h>

#include "bench/serving_result.h"
#include "bench/test_vectors.h"

namespace sluice::bench {
namespace {

// The same definitions in NumPy's functions (tests/golden/bench/make_vectors.py), of runs with requests that
// failed, without a chunk, with one, with many.
TEST(ServingMetrics, AreThoseOfThePeersDefinitions) {
  const Json vectors = TestVectors();
  ASSERT_EQ(vectors["runs"].size(), 6U);
  for (const Json& run : vectors["runs"]) {
    const double seconds = run["seconds"];
    const ServingMetrics metrics = MetricsOf(RecordsOf(run["records"]), seconds);
    const Json& expected = run["metrics"];
    EXPECT_EQ(metrics.completed, expected["completed"]);
    EXPECT_EQ(metrics.failed, expected["failed"]);
    EXPECT_EQ(metrics.input_tokens, expected["input_tokens"]);
    EXPECT_EQ(metrics.output_tokens, expected["output_tokens"]);
    EXPECT_TRUE(Close(metrics.request_throughput, expected["request_throughput"]));
    EXPECT_TRUE(Close(metrics.input_throughput, expected["input_throughput"]));
    EXPECT_TRUE(Close(metrics.output_throughput, expected["output_throughput"]));
    EXPECT_TRUE(Close(metrics.total_throughput, expected["total_throughput"]));
    EXPECT_TRUE(Close(metrics.concurrency, expected["concurrency"]));
    EXPECT_EQ(metrics.peak_output_throughput, expected["peak_output_throughput"]);
    EXPECT_EQ(metrics.peak_requests, expected["peak_requests"]);
    ExpectSummary(metrics.e2e_ms, expected["e2e"]);
    ExpectSummary(metrics.ttft_ms, expected["ttft"]);
    ExpectSummary(metrics.tpot_ms, expected["tpot"]);
    ExpectSummary(metrics.itl_ms, expected["itl"]);
  }
}

RunLabels GoldenLabels() {
  RunLabels labels;
  labels.backend = "sglang-oai";
  labels.request_rate = "4.0";
  labels.max_concurrency = 16;
  return labels;
}

TEST(ServingResult, BlockIsWhatPythonWrites) {
  const Json run = TestVectors()["runs"][4];
  const ServingMetrics metrics = MetricsOf(RecordsOf(run["records"]), run["seconds"]);
  EXPECT_EQ(ResultBlock(GoldenLabels(), metrics), GoldenText("result_block.txt"));
}

TEST(ServingResult, SaysThatARunEndedEarlyAndWhatWasCached) {
  RunLabels labels = GoldenLabels();
  labels.max_concurrency = 0;
  labels.ended_early = "the server is gone";
  labels.cache_report = true;
  ServingMetrics metrics;
  metrics.input_tokens = 200;
  metrics.cached_tokens = 50;
  const std::string block = ResultBlock(labels, metrics);
  EXPECT_NE(block.find("Max request concurrency:                 not set   \n"), std::string::npos);
  EXPECT_NE(block.find("Cache hit rate:                          25.0%\n"), std::string::npos);
  EXPECT_TRUE(block.ends_with("Ended early: the server is gone\n"));
  const Json result = ServingResult(labels, metrics);
  EXPECT_EQ(result["ended_early"], "the server is gone");
  EXPECT_EQ(result["request_rate"], 4.0);
  EXPECT_TRUE(result["max_concurrency"].is_null());
}

TEST(ServingResult, DetailsAreOneEntryARequest) {
  const Json run = TestVectors()["runs"][4];
  const std::vector<RequestRecord> records = RecordsOf(run["records"]);
  Json result = Json::object();
  AddDetails(records, result);
  ASSERT_EQ(result["ttfts"].size(), records.size());
  for (size_t i = 0; i < records.size(); ++i) {
    EXPECT_TRUE(Close(result["ttfts"][i], records[i].ok() ? TtftMs(records[i]) / 1e3 : 0.0));
    const size_t chunks = records[i].chunk_ns.size();
    EXPECT_EQ(result["itls"][i].size(), chunks == 0 ? 0 : chunks - 1);
    EXPECT_EQ(result["errors"][i], records[i].error);
  }
}

}  // namespace
}  // namespace sluice::bench
