#include "serve/metrics.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <sstream>

#include "serve/metric_names.h"
#include "serve/request_watch.h"
#include "serve/server_fixture.h"

namespace sluice::serve {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr engine::EngineLoad kLoad{3, 2, 128, 512};

// The value of a series, as text; "none" when there is no such line.
std::string ValueOf(const std::string& text, const std::string& series) {
  const auto at = ("\n" + text).find("\n" + series + " ");
  if (at == std::string::npos) return "none";
  const auto begin = at + series.size() + 1;
  return text.substr(begin, text.find('\n', begin) - begin);
}
std::string Named(const std::string& name) { return "sluice_" + name + "{model_name=\"tiny\"}"; }

TEST(Metrics, LoadIsShownAsItIsWhenAsked) {
  Metrics metrics({"tiny"});
  const std::string text = metrics.Text(kLoad, {});
  EXPECT_EQ(ValueOf(text, Named("num_running_reqs")), "3");
  EXPECT_EQ(ValueOf(text, Named("num_queue_reqs")), "2");
  EXPECT_EQ(ValueOf(text, Named("num_used_tokens")), "128");
  EXPECT_EQ(ValueOf(text, Named("token_usage")), "0.25");
  EXPECT_NE(text.find("# HELP sluice_num_running_reqs "), std::string::npos);
  EXPECT_NE(text.find("# TYPE sluice_time_to_first_token_seconds histogram"), std::string::npos);
}

TEST(Metrics, ARequestsTimesGoWhereTheyBelong) {
  Metrics metrics({"tiny", true});
  RequestWatch watch({&metrics, false}, 100);
  watch.Submitted(10 * kSecond);
  watch.Progress(0, 11 * kSecond, 12 * kSecond);
  watch.Progress(1, 11 * kSecond, 14 * kSecond);
  watch.Progress(2, 11 * kSecond, 17 * kSecond);
  watch.Ended("a", "length", false, 18 * kSecond);
  watch.Ended("a", "again", true, 99 * kSecond);  // counts nothing
  const std::string text = metrics.Text(kLoad, {});
  EXPECT_EQ(ValueOf(text, Named("queue_time_seconds_sum")), "1");
  EXPECT_EQ(ValueOf(text, Named("time_to_first_token_seconds_sum")), "4");
  EXPECT_EQ(ValueOf(text, Named("inter_token_latency_seconds_sum")), "3");
  EXPECT_EQ(ValueOf(text, Named("inter_token_latency_seconds_count")), "2");
  EXPECT_EQ(ValueOf(text, Named("e2e_request_latency_seconds_sum")), "8");
  EXPECT_EQ(ValueOf(text, Named("prompt_tokens_total")), "100");
  EXPECT_EQ(ValueOf(text, Named("generation_tokens_total")), "3");
  EXPECT_EQ(ValueOf(text, Named("num_requests_total")), "1");
  EXPECT_EQ(ValueOf(text, Named("num_aborted_requests_total")), "0");
  EXPECT_EQ(ValueOf(text, Named("request_prompt_tokens_sum")), "100");
  EXPECT_EQ(ValueOf(text, Named("request_generation_tokens_sum")), "3");
}

TEST(Metrics, AnAbortedRequestCountsAsOneButNotIntoTheLatencyOfAnswers) {
  Metrics metrics({"tiny"});
  RequestWatch watch({&metrics, false}, 7);
  watch.Submitted(kSecond);
  watch.Ended("a", "client gone", true, 2 * kSecond);
  const std::string text = metrics.Text(kLoad, {});
  EXPECT_EQ(ValueOf(text, Named("num_requests_total")), "1");
  EXPECT_EQ(ValueOf(text, Named("num_aborted_requests_total")), "1");
  EXPECT_EQ(ValueOf(text, Named("e2e_request_latency_seconds_count")), "0");
  EXPECT_EQ(ValueOf(text, Named("queue_time_seconds_count")), "0");
  EXPECT_EQ(ValueOf(text, Named("request_prompt_tokens_count")), "none");
}

TEST(Metrics, OtherNamesAreAskedFor) {
  EXPECT_EQ(Metrics({"tiny"}).Text(kLoad, {}).find("sglang:"), std::string::npos);
  const std::string text = Metrics({"tiny", false, "sglang"}).Text(kLoad, {});
  EXPECT_EQ(ValueOf(text, "sglang:num_running_reqs{model_name=\"tiny\"}"), "3");
  EXPECT_EQ(ValueOf(text, Named("num_running_reqs")), "3");
}

TEST(Metrics, ARequestThatEndsEarlyIsCountedWhereItWasWithWhatItCost) {
  Metrics metrics({"tiny"});
  const auto end = [&](int64_t started_ns, int64_t first_token_ns) {
    RequestWatch watch({&metrics, false}, 100);
    watch.Submitted(kSecond);
    if (started_ns > 0) watch.Progress(0, started_ns, started_ns);
    if (started_ns > 0) watch.Prompt(96, 64);
    if (first_token_ns > 0) watch.Progress(1, started_ns, first_token_ns);
    watch.Ended("a", "client gone", true, 9 * kSecond);
  };
  end(0, 0);
  end(2 * kSecond, 0);
  end(2 * kSecond, 0);
  end(2 * kSecond, 3 * kSecond);
  const std::string text = metrics.Text(kLoad, {});
  const auto cancelled = [&](const std::string& phase) {
    return ValueOf(text, "sluice_requests_cancelled_total{model_name=\"tiny\",phase=\"" + phase + "\"}");
  };
  EXPECT_EQ(cancelled("queue"), "1");
  EXPECT_EQ(cancelled("prefill"), "2");
  EXPECT_EQ(cancelled("decode"), "1");
  EXPECT_EQ(ValueOf(text, Named("wasted_prefill_tokens_total")), "64");  // twice 96 - 64
  EXPECT_EQ(ValueOf(text, Named("cached_tokens_total")), "192");
  EXPECT_EQ(ValueOf(text, Named("cacheable_tokens_total")), "300");
}

TEST(Metrics, CacheRanksAndStagesAreAsOfTheirLastHeartbeats) {
  Metrics metrics({"tiny"});
  engine::EngineLoad load = kLoad;
  load.cached_tokens = 64;
  load.pending_prefill_tokens = 1000;
  engine::StallReport report;
  report.ranks.resize(3);
  for (int32_t rank = 0; rank < 3; ++rank) {
    report.ranks[rank].rank = rank;
    report.ranks[rank].stage = rank / 2;
    report.ranks[rank].lane = rank % 2;
    report.ranks[rank].activity = rank == 1 ? "gone" : "computes";
    report.ranks[rank].heard_age_seconds = 0.25 * rank;
    report.ranks[rank].times = {kSecond, 2 * kSecond, 3 * kSecond, 4 * kSecond};
    report.ranks[rank].period = {5, 0, 4 * kSecond, {kSecond, kSecond, kSecond, kSecond}};
  }
  const std::string text = metrics.Text(load, report);
  const auto pages = [&](const std::string& state) {
    return ValueOf(text, "sluice_kv_pages{model_name=\"tiny\",state=\"" + state + "\"}");
  };
  EXPECT_EQ(pages("used"), "2");
  EXPECT_EQ(pages("cached"), "1");
  EXPECT_EQ(pages("free"), "5");
  EXPECT_EQ(ValueOf(text, Named("prefill_tokens_pending")), "1000");
  const std::string second = R"({model_name="tiny",rank="1",stage="0",lane="1"})";
  EXPECT_EQ(ValueOf(text, "sluice_rank_up" + second), "0");
  EXPECT_EQ(ValueOf(text, R"(sluice_rank_up{model_name="tiny",rank="2",stage="1",lane="0"})"), "1");
  EXPECT_EQ(ValueOf(text, "sluice_rank_heartbeat_age_seconds" + second), "0.25");
  EXPECT_EQ(ValueOf(text, R"(sluice_stage_seconds_total{model_name="tiny",stage="0",part="hop"})"), "6");
  EXPECT_EQ(ValueOf(text, R"(sluice_pipeline_bubble_seconds_total{model_name="tiny",stage="1"})"), "5");
  EXPECT_EQ(ValueOf(text, R"(sluice_pipeline_fill_ratio{model_name="tiny",stage="0"})"), "0.25");
  EXPECT_EQ(ValueOf(text, Named("stalled")), "0");
}

TEST(Metrics, LongWaitsHaveBuckets) {
  const std::string text = Metrics({"tiny"}).Text(kLoad, {});
  for (const char* name : {"time_to_first_token_seconds", "e2e_request_latency_seconds", "queue_time_seconds",
                           "inter_token_latency_seconds"}) {
    EXPECT_EQ(ValueOf(text, std::string("sluice_") + name + R"(_bucket{model_name="tiny",le="3600"})"), "0");
  }
}

TEST(Metrics, EveryNameOfAnotherServerStandsForASeriesOfOurs) {
  for (const char* system : {"sglang", "vllm"}) {
    const std::string text = Metrics({"tiny", true, system}).Text(kLoad, {});
    for (const MetricAlias& alias : MetricAliases()) {
      EXPECT_NE(text.find("# TYPE sluice_" + std::string(alias.ours) + " "), std::string::npos) << alias.ours;
      const std::string_view theirs = std::string_view(system) == "vllm" ? alias.vllm : alias.sglang;
      if (theirs.empty()) continue;
      const std::string line = "# TYPE " + std::string(system) + ":" + std::string(theirs) + " ";
      EXPECT_NE(text.find(line), std::string::npos) << line;
    }
  }
  EXPECT_EQ(ValueOf(Metrics({"tiny", false, "vllm"}).Text(kLoad, {}),
                    "vllm:num_requests_running{model_name=\"tiny\"}"),
            "3");
}

TEST(RequestWatch, ItsLineAddsUp) {
  RequestRecord record{kSecond, 2 * kSecond, 5 * kSecond, 9 * kSecond, 100, 5, false};
  EXPECT_EQ(RequestWatch::Line("cmpl-1", "stop", record),
            "cmpl-1 stop: prompt 100, answer 5 tokens; queue 1.000 s, prefill 3.000 s, decode 4.000 s, total "
            "8.000 s");
  record.first_token_ns = 0;
  EXPECT_EQ(RequestWatch::Line("cmpl-1", "client gone", record),
            "cmpl-1 client gone: prompt 100, answer 5 tokens; queue 1.000 s, prefill 7.000 s, decode 0.000 "
            "s, total "
            "8.000 s");
}

using MetricsRoute = ServerTest;

TEST_F(MetricsRoute, WhenItIsDisabledTheAnswerSaysByWhichFlag) {
  StartServer();
  const RawAnswer answer = Get("/metrics");
  ExpectRefused(answer, 404, "invalid_request_error", "unknown_url");
  EXPECT_NE(answer.body.find("--disable-metrics"), std::string::npos);
}

TEST_F(MetricsRoute, CountsWhatTheServerDid) {
  Metrics metrics({"tiny"});
  watchers_ = {&metrics, false};
  StartServer("Hello there");
  const Json body = {{"model", "tiny"}, {"prompt", "abc"}, {"max_tokens", 5}, {"stop", "He"}};
  ASSERT_EQ(Post("/v1/completions", body).status, 200);
  const RawAnswer answer = Get("/metrics");
  ASSERT_EQ(answer.status, 200);
  EXPECT_EQ(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(ValueOf(answer.body, Named("prompt_tokens_total")), "3");
  EXPECT_EQ(ValueOf(answer.body, Named("num_requests_total")), "1");
  // A stop string ends the engine's work early and is no abort.
  EXPECT_EQ(ValueOf(answer.body, Named("num_aborted_requests_total")), "0");
  EXPECT_EQ(ValueOf(answer.body, Named("num_queue_reqs")), "2");
  // A request that is refused before it is submitted is none, but counts as refused.
  EXPECT_EQ(Post("/v1/completions", {{"model", "tiny"}}).status, 400);
  const std::string after = Get("/metrics").body;
  EXPECT_EQ(ValueOf(after, Named("num_requests_total")), "1");
  EXPECT_EQ(
      ValueOf(after,
              "sluice_requests_rejected_total{model_name=\"tiny\",reason=\"missing_required_parameter\"}"),
      "1");
  server_.reset();  // before the metrics
}

TEST_F(MetricsRoute, TheLogOfRequestsHasTheWholeAnswerAndTheIdOfIt) {
  std::ostringstream text;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("captured", std::make_shared<spdlog::sinks::ostream_sink_mt>(text)));
  watchers_ = {nullptr, false, RequestLog(2, &TestTokenizer())};
  StartServer("Hello there");
  const RawAnswer answer =
      Post("/v1/completions", {{"model", "tiny"}, {"prompt", "abc"}, {"max_tokens", 50}});
  ASSERT_EQ(answer.status, 200);
  server_.reset();
  spdlog::set_default_logger(before);
  const std::string id = Json::parse(answer.body)["id"];
  EXPECT_NE(text.str().find("request " + id + ": 3 prompt tokens, max_tokens 50, temperature 1"),
            std::string::npos)
      << text.str();
  EXPECT_NE(text.str().find(", prompt \"abc\""), std::string::npos) << text.str();
  EXPECT_NE(text.str().find("request " + id + " ended: stop, 11 answer tokens, answer \"Hello there\""),
            std::string::npos)
      << text.str();
}

TEST_F(MetricsRoute, AClientThatLeavesIsAnAbortedRequest) {
  Metrics metrics({"tiny"});
  watchers_ = {&metrics, false};
  Script script;
  script.tokens = ByteTokens("H");
  script.hold = true;
  StartServer(script);
  {
    RawClient client(server_->port());
    client.Send(PostText("/v1/completions", R"({"model": "tiny", "prompt": "abc", "max_tokens": 9})"));
    ASSERT_TRUE(Eventually([&] { return engine_->running() == 1; }));
  }
  EXPECT_TRUE(
      Eventually([&] { return ValueOf(Get("/metrics").body, Named("num_aborted_requests_total")) == "1"; }));
  server_.reset();
}

}  // namespace
}  // namespace sluice::serve
