#include <set>

#include "serve/server_fixture.h"

namespace sluice::serve {
namespace {

class FieldTest : public ServerTest {};

TEST_F(FieldTest, SeveralAnswersShareTheirPrompt) {
  StartServer(AnswerOf("Hey"));
  const Json body = Complete({{"prompt", {"ab", "c"}}, {"n", 3}, {"seed", 10}, {"max_tokens", 9}}).json();
  ASSERT_EQ(body["choices"].size(), 6U);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["text"], "Hey");
  }
  EXPECT_EQ(body["usage"]["prompt_tokens"], 3) << "a prompt counts once";
  EXPECT_EQ(body["usage"]["completion_tokens"], 18);
  std::multiset<std::pair<std::size_t, uint64_t>> seeds;
  const auto requests = engine_->requests();
  for (const engine::Request& request : requests) seeds.emplace(request.prompt.size(), request.seed);
  EXPECT_EQ(seeds, (std::multiset<std::pair<std::size_t, uint64_t>>{
                       {1, 10}, {1, 11}, {1, 12}, {2, 10}, {2, 11}, {2, 12}}));
}

TEST_F(FieldTest, TheOtherAnswersWaitUntilTheFirstHasComputedThePrompt) {
  Script script;
  script.hold = true;
  StartServer(script);
  RawClient client(server_->port());
  client.Send(PostText("/v1/completions", R"({"model":"tiny","prompt":"ab","n":4})"));
  ASSERT_TRUE(Eventually([this] { return !engine_->requests().empty(); }));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(engine_->requests().size(), 1U);
}

TEST_F(FieldTest, SeveralAnswersOfAStreamKeepTheirIndex) {
  StartServer(AnswerOf("Hi"));
  std::map<int, std::string> texts;
  std::map<int, int> roles;
  std::map<int, int> ends;
  for (const Json& chunk : Chunks(Chat({{"n", 2}, {"stream", true}}).body)) {
    const Json& choice = chunk["choices"][0];
    const int index = choice["index"];
    roles[index] += choice["delta"].contains("role") ? 1 : 0;
    texts[index] += choice["delta"].value("content", "");
    ends[index] += choice["finish_reason"].is_null() ? 0 : 1;
  }
  EXPECT_EQ(texts, (std::map<int, std::string>{{0, "Hi"}, {1, "Hi"}}));
  EXPECT_EQ(roles, (std::map<int, int>{{0, 1}, {1, 1}}));
  EXPECT_EQ(ends, (std::map<int, int>{{0, 1}, {1, 1}}));
}

TEST_F(FieldTest, EchoOfSeveralAnswersComputesThePromptsLogprobsOnce) {
  StartServer(AnswerOf("x"));
  const Json body = Complete({{"n", 2}, {"echo", true}, {"logprobs", 1}, {"max_tokens", 1}}).json();
  EXPECT_EQ(body["choices"][0]["logprobs"], body["choices"][1]["logprobs"]);
  EXPECT_EQ(body["choices"][1]["logprobs"]["token_logprobs"], (Json{nullptr, -0.5, -0.125}));
  EXPECT_TRUE(engine_->requests().at(0).prompt_logprobs);
  EXPECT_FALSE(engine_->requests().at(1).prompt_logprobs);
}

TEST_F(FieldTest, ProgressChunksHaveOneChoiceWithNothingInIt) {
  Script script = AnswerOf("Hi");
  script.prompt_tokens_a_step = 40;
  script.cached_tokens = 20;
  StartServer(script);
  const Json turn = {{"role", "user"}, {"content", std::string(100, 'x')}};
  const auto chunks =
      Chunks(Chat({{"stream", true}, {"return_progress", true}, {"messages", Json::array({turn})}}).body);
  EXPECT_EQ(chunks[0]["choices"][0]["delta"], (Json{{"role", "assistant"}, {"content", ""}}));
  std::vector<int> processed;
  for (const Json& chunk : chunks) {
    ASSERT_EQ(chunk["choices"].size(), 1U);
    if (!chunk.contains("prompt_progress")) continue;
    const Json& progress = chunk["prompt_progress"];
    EXPECT_EQ(progress["total"], 104);
    EXPECT_EQ(progress["cache"], 20);
    EXPECT_GE(progress["time_ms"].get<int64_t>(), 0);
    EXPECT_EQ(chunk["choices"][0]["delta"], Json::object());
    EXPECT_TRUE(chunk["choices"][0]["finish_reason"].is_null());
    processed.push_back(progress["processed"]);
  }
  EXPECT_EQ(processed, (std::vector<int>{60, 100, 104}));
  for (const Json& chunk : Chunks(Complete({{"stream", true}, {"return_progress", true}}).body)) {
    if (chunk.contains("prompt_progress")) {
      EXPECT_EQ(chunk["choices"][0]["text"], "");
    }
  }
  EXPECT_EQ(Chat({{"stream", true}}).body.find("prompt_progress"), std::string::npos);
}

TEST_F(FieldTest, CachedTokensAreAlwaysInTheUsage) {
  Script script = AnswerOf("Hi");
  StartServer(script);
  EXPECT_EQ(Complete(Json::object()).json()["usage"]["prompt_tokens_details"], (Json{{"cached_tokens", 0}}));
  server_.reset();
  script.cached_tokens = 2;
  StartServer(script);
  EXPECT_EQ(Complete({{"n", 2}}).json()["usage"]["prompt_tokens_details"], (Json{{"cached_tokens", 2}}));
}

TEST_F(FieldTest, TimingsOnDemand) {
  Script script = AnswerOf("Hello");
  script.interval = std::chrono::milliseconds(5);
  script.cached_tokens = 1;
  StartServer(script);
  EXPECT_FALSE(Complete(Json::object()).json().contains("timings"));
  const Json timings = Complete({{"timings", true}}).json()["timings"];
  EXPECT_EQ(timings["cache_n"], 1);
  EXPECT_EQ(timings["prompt_n"], 1);
  EXPECT_EQ(timings["predicted_n"], 5);
  for (const char* name : {"queue_ms", "prompt_ms", "first_token_ms", "predicted_ms", "total_ms"}) {
    EXPECT_GE(timings[name].get<double>(), 0) << name;
  }
  EXPECT_GE(timings["predicted_ms"].get<double>(), 4 * 5) << "five tokens, 5 ms before each";
  EXPECT_GE(timings["total_ms"].get<double>(), timings["predicted_ms"].get<double>());
  EXPECT_EQ(Complete({{"timings", true}, {"n", 2}}).json()["timings"].size(), 2U);
  const auto each = Chunks(Complete({{"timings_per_token", true}, {"stream", true}}).body);
  for (const Json& chunk : each) EXPECT_TRUE(chunk.contains("timings"));
  const auto last = Chunks(Complete({{"timings", true}, {"stream", true}}).body);
  EXPECT_FALSE(last.front().contains("timings"));
  EXPECT_TRUE(last.back().contains("timings"));
}

TEST_F(FieldTest, WhatEndsTheAnswerIsPartOfItOnDemand) {
  StartServer(AnswerOf("one.two"));
  for (const char* name : {"include_stop_str_in_output", "no_stop_trim"}) {
    const Json choice = Complete({{"stop", "."}, {name, true}}).json()["choices"][0];
    EXPECT_EQ(choice["text"], "one.");
    EXPECT_EQ(choice["matched_stop"], ".");
    EXPECT_EQ(choice["stop_reason"], ".");
  }
  const Json choice = Complete({{"stop_token_ids", {7 + '.'}}, {"no_stop_trim", true}}).json()["choices"][0];
  EXPECT_EQ(choice["text"], "one.");
  EXPECT_EQ(choice["matched_stop"], 7 + '.');
  EXPECT_EQ(Complete({{"stop", "."}}).json()["choices"][0]["text"], "one");
  EXPECT_TRUE(Complete({{"max_tokens", 1}}).json()["choices"][0]["matched_stop"].is_null());
}

TEST_F(FieldTest, ARequestKeepsTheNameOfItsClient) {
  StartServer(AnswerOf("x"));
  for (const char* name : {"rid", "request_id"}) {
    const RawAnswer answer = Complete({{name, "job-7/a"}});
    EXPECT_EQ(answer.json()["id"], "job-7/a");
    EXPECT_EQ(answer.header("x-request-id"), "job-7/a");
  }
  const RawAnswer named =
      PostRaw("/v1/completions", R"({"model":"tiny","prompt":"a"})", "X-Request-Id: q-1\r\n");
  EXPECT_EQ(named.header("x-request-id"), "q-1");
  EXPECT_EQ(named.json()["id"], "cmpl-q-1");
}

TEST_F(FieldTest, WhatOnlyTheEngineActsOnReachesIt) {
  StartServer(AnswerOf("x"));
  const int64_t before = NowNs();
  Complete({{"cache_salt", "a"}, {"deadline_ms", 5000}});
  Complete({{"extra_key", "a"}});
  Complete({{"cache_salt", "a"}});
  Complete(Json::object());
  const auto requests = engine_->requests();
  EXPECT_GE(requests[0].deadline_ns, before + 5'000'000'000);
  EXPECT_LE(requests[0].deadline_ns, NowNs() + 5'000'000'000);
  EXPECT_EQ(requests[1].deadline_ns, 0);
  EXPECT_EQ(requests[0].cache_salt, requests[2].cache_salt);
  EXPECT_NE(requests[0].cache_salt, requests[1].cache_salt);
  EXPECT_EQ(requests[3].cache_salt, "");
}

TEST_F(FieldTest, APriorityThatWouldMeanNothingIsRefused) {
  engine::EngineInfo info = TestEngineInfo();
  StartServer(AnswerOf("x"), info);
  ExpectRefused(Complete({{"priority", 3}}), 400, "invalid_request_error", "unsupported_parameter",
                "priority");
  EXPECT_EQ(Complete({{"priority", 0}}).status, 200);
  server_.reset();
  info.priority_scheduling = true;
  StartServer(AnswerOf("x"), info);
  EXPECT_EQ(Complete({{"priority", 3}}).status, 200);
  EXPECT_EQ(engine_->requests().at(0).priority, 3);
}

TEST_F(FieldTest, APromptIsCutOnlyOnDemandAndTheUsageSaysSo) {
  StartServer(AnswerOf("x"));
  ExpectRefused(Complete({{"prompt", std::string(1200, 'a')}}), 400, "invalid_request_error",
                "context_length_exceeded", "prompt");
  const Json cut = Complete({{"prompt", "abcdef"}, {"truncate_prompt_tokens", 2}, {"echo", true}}).json();
  EXPECT_EQ(cut["choices"][0]["text"], "efx");
  EXPECT_EQ(cut["usage"]["prompt_tokens"], 2);
  EXPECT_EQ(cut["usage"]["prompt_tokens_details"]["truncated_tokens"], 4);
  EXPECT_EQ(engine_->requests().at(0).prompt, ByteTokens("ef"));
  const Json fits =
      Complete({{"prompt", std::string(1200, 'a')}, {"truncate_prompt_tokens", -1}, {"max_tokens", 10}})
          .json();
  EXPECT_EQ(fits["usage"]["prompt_tokens"], 990);
  const Json whole = Complete({{"truncate_prompt_tokens", 50}}).json();
  EXPECT_EQ(whole["usage"]["prompt_tokens_details"]["truncated_tokens"], 0);
}

TEST_F(FieldTest, PromptLogprobsHaveVllmsForm) {
  options_.max_prompt_logprobs = 8;
  StartServer(AnswerOf("x"));
  const Json wanted =
      Json::array({nullptr, Json{{"105", {{"logprob", -0.5}, {"rank", 1}, {"decoded_token", "b"}}},
                                 {"106", {{"logprob", -0.5625}, {"rank", 2}, {"decoded_token", "c"}}}}});
  const Json completion = Complete({{"prompt_logprobs", 2}, {"logprobs", 1}}).json()["choices"][0];
  EXPECT_EQ(completion["prompt_logprobs"], wanted);
  EXPECT_EQ(completion["logprobs"]["top_logprobs"], Json::array({Json{{"x", -0.125}}}));
  const auto chunks = Chunks(Complete({{"prompt_logprobs", 2}, {"stream", true}}).body);
  EXPECT_EQ(chunks[0]["choices"][0]["prompt_logprobs"], wanted);
  EXPECT_EQ(Chat({{"prompt_logprobs", 0}}).json()["prompt_logprobs"].size(), 6U);
  ExpectRefused(Complete({{"prompt_logprobs", 0}, {"prompt", {"abcde", "abcd"}}}), 400,
                "invalid_request_error", "out_of_range", "prompt");
  ExpectRefused(Complete({{"echo", true}, {"logprobs", 0}, {"prompt", "abcdefghi"}}), 400,
                "invalid_request_error", "out_of_range", "prompt");
}

TEST_F(FieldTest, ADeadlineThatPassesIsATimeoutOfOurs) {
  Script script;
  script.tokens = ByteTokens("ab");
  script.deadline = true;
  StartServer(script);
  const RawAnswer answer = Complete({{"deadline_ms", 10}});
  ExpectRefused(answer, 504, "timeout_error", "deadline_exceeded");
  EXPECT_EQ(answer.header("x-should-retry"), "false");
  const auto chunks = Chunks(Complete({{"deadline_ms", 10}, {"stream", true}}).body);
  EXPECT_EQ(chunks.back()["error"]["code"], "deadline_exceeded");
}

TEST_F(FieldTest, AFullQueueSaysWhenToComeBack) {
  StartServer(AnswerOf("x"));
  engine_->SetQueueFull("1024 requests wait", 3.2);
  RawAnswer answer = Complete(Json::object());
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.code(), "queue_full");
  EXPECT_EQ(answer.header("retry-after"), "4");
  EXPECT_EQ(answer.header("x-should-retry"), "");
  EXPECT_EQ(answer.json()["error"]["predicted_wait_seconds"], 3.2);
  engine_->SetQueueFull("1024 requests wait", 90);
  answer = Complete({{"stream", true}});
  EXPECT_EQ(answer.header("retry-after"), "") << "clients do not heed a wait of more than a minute";
  EXPECT_EQ(answer.header("x-should-retry"), "false");
  EXPECT_EQ(answer.json()["error"]["predicted_wait_seconds"], 90.0);
  engine_->SetQueueFull("1024 requests wait", 0);
  EXPECT_EQ(Complete(Json::object()).header("retry-after"), "1");
}

TEST_F(FieldTest, ADeadlineThatCannotBeKeptIsRefused) {
  StartServer(AnswerOf("x"));
  engine_->SetDeadlineUnreachable("9000 prompt tokens take longer");
  const RawAnswer answer = Complete({{"deadline_ms", 1000}});
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.code(), "deadline_unreachable");
  EXPECT_EQ(answer.header("retry-after"), "8");
  EXPECT_EQ(answer.json()["error"]["predicted_wait_seconds"], 7.5);
  EXPECT_EQ(Complete(Json::object()).status, 200);
}

}  // namespace
}  // namespace sluice::serve
