#include "serve/route_table.h"
#include "serve/server_fixture.h"

namespace sluice::serve {
namespace {

class RouteTest : public ServerTest {};

TEST_F(RouteTest, TokenizeAndDetokenize) {
  StartServer();
  const Json wanted = {{"tokens", {7 + 'h', 7 + 'i'}}, {"count", 2}, {"max_model_len", 1000}};
  EXPECT_EQ(Post("/tokenize", {{"prompt", "hi"}}).json(), wanted);
  EXPECT_EQ(Post("/tokenize", {{"content", "hi"}, {"model", "tiny"}}).json(), wanted);
  EXPECT_EQ(Post("/tokenize", {{"content", "hi"}, {"with_pieces", true}}).json()["token_strs"],
            (Json{"h", "i"}));
  const Json turns = Json::array({Json{{"role", "user"}, {"content", "ab"}}});
  EXPECT_EQ(Post("/tokenize", {{"messages", turns}}).json()["tokens"], (Json{0, 2, 7 + 'a', 7 + 'b', 3, 5}));
  EXPECT_EQ(Post("/detokenize", {{"tokens", {7 + 'h', 7 + 'i'}}}).json(),
            (Json{{"prompt", "hi"}, {"content", "hi"}}));
  ExpectRefused(Post("/tokenize", Json::object()), 400, kInvalid, "missing_required_parameter", "prompt");
  ExpectRefused(Post("/tokenize", {{"prompt", "a"}, {"content", "a"}}), 400, kInvalid, "invalid_value",
                "content");
  ExpectRefused(Post("/tokenize", {{"prompt", "a"}, {"model", "gpt"}}), 404, kInvalid, "model_not_found",
                "model");
  ExpectRefused(Post("/detokenize", {{"tokens", {300}}}), 400, kInvalid, "invalid_value", "tokens[0]");
  ExpectRefused(Post("/detokenize", Json::object()), 400, kInvalid, "missing_required_parameter", "tokens");
}

TEST_F(RouteTest, TheTokenizerSaysHowATextEnds) {
  StartServer();
  const Json info = Get("/tokenizer_info").json();
  EXPECT_EQ(Post("/tokenize", {{"prompt", info["eos_token"]}}).json()["tokens"], Json::array({1}));
  EXPECT_EQ(Post("/tokenize", {{"prompt", info["bos_token"]}}).json()["tokens"], Json::array({0}));
}

TEST_F(RouteTest, TheRenderedPromptIsWhatTheChatIsAnsweredFrom) {
  StartServer();
  const Json turns = Json::array({Json{{"role", "user"}, {"content", "ab"}}});
  for (const char* path : {"/v1/chat/completions/render", "/apply-template"}) {
    const Json body = Post(path, {{"messages", turns}}).json();
    Chat({{"messages", turns}});
    EXPECT_EQ(body["token_ids"], Json(engine_->requests().back().prompt));
    EXPECT_EQ(body["count"], 6);
    EXPECT_EQ(Post("/tokenize", {{"prompt", body["prompt"]}}).json()["tokens"], body["token_ids"]);
  }
}

TEST_F(RouteTest, VersionAndLoad) {
  StartServer();
  EXPECT_EQ(Get("/version").json()["version"], "0.1.0");
  const Json load = Get("/get_load").json();
  ASSERT_EQ(load.size(), 1U);
  EXPECT_EQ(load[0]["num_waiting_reqs"], 2);
  EXPECT_EQ(load[0]["num_tokens"], 128);
  EXPECT_EQ(Get("/server_info").json().dump(), Get("/get_server_info").json().dump());
}

TEST_F(RouteTest, GenerateHasSglangsShape) {
  Script script = AnswerOf("Hello");
  script.cached_tokens = 1;
  StartServer(script);
  const Json body =
      Post("/generate", {{"text", "ab"}, {"rid", "r1"}, {"sampling_params", {{"max_new_tokens", 20}}}})
          .json();
  EXPECT_EQ(body["text"], "Hello");
  EXPECT_EQ(body["output_ids"], Json(ByteTokens("Hello")));
  const Json& info = body["meta_info"];
  EXPECT_EQ(info["id"], "r1");
  EXPECT_EQ(info["finish_reason"], (Json{{"type", "stop"}, {"matched", 1}}));
  EXPECT_EQ(info["prompt_tokens"], 2);
  EXPECT_EQ(info["completion_tokens"], 5);
  EXPECT_EQ(info["cached_tokens"], 1);
  EXPECT_GE(info["e2e_latency"].get<double>(), 0);
  EXPECT_FALSE(body.contains("index"));
  EXPECT_EQ(Post("/generate", {{"input_ids", {8, 9}}, {"sampling_params", {{"max_new_tokens", 2}}}})
                .json()["meta_info"]["finish_reason"],
            (Json{{"type", "length"}, {"length", 2}}));
}

TEST_F(RouteTest, GenerateTakesBatches) {
  StartServer(AnswerOf("x"));
  Json body = Post("/generate", {{"text", {"ab", "c"}}, {"rid", "r"}}).json();
  ASSERT_EQ(body.size(), 2U);
  EXPECT_EQ(body[1]["index"], 1);
  EXPECT_EQ(body[1]["meta_info"]["id"], "r_1");
  EXPECT_EQ(body[1]["meta_info"]["prompt_tokens"], 1);
  EXPECT_EQ(Post("/generate", {{"input_ids", Json::array({{8, 9}})}}).json().size(), 1U);
  EXPECT_EQ(Post("/generate", {{"text", "a"}, {"sampling_params", {{"n", 3}}}}).json().size(), 3U);
  EXPECT_EQ(engine_->requests().back().max_tokens, 128);
}

TEST_F(RouteTest, AStreamOfGenerateIsCumulativeUnlessSegmentsAreWanted) {
  StartServer(AnswerOf("Hey"));
  const auto texts = [this](bool segments) {
    std::vector<std::string> list;
    for (const std::string& event :
         EventsOf(Post("/generate", {{"text", "a"}, {"stream", true}, {"stream_output", segments}}).body)) {
      if (event == "[DONE]") break;
      const Json chunk = Json::parse(event);
      list.push_back(chunk["text"]);
      if (list.size() < 4U) {
        EXPECT_TRUE(chunk["meta_info"]["finish_reason"].is_null());
      }
    }
    return list;
  };
  EXPECT_EQ(texts(false), (std::vector<std::string>{"H", "He", "Hey", "Hey"}));
  EXPECT_EQ(texts(true), (std::vector<std::string>{"H", "e", "y", ""}));
}

TEST_F(RouteTest, GenerateGivesLogprobs) {
  StartServer(AnswerOf("x"));
  const Json info = Post("/generate", {{"text", "ab"},
                                       {"return_logprob", true},
                                       {"logprob_start_len", 0},
                                       {"top_logprobs_num", 1},
                                       {"return_text_in_logprobs", true}})
                        .json()["meta_info"];
  EXPECT_EQ(info["input_token_logprobs"], (Json{{nullptr, 7 + 'a', "a"}, {-0.5, 7 + 'b', "b"}}));
  EXPECT_EQ(info["output_token_logprobs"], (Json::array({{-0.125, 7 + 'x', "x"}})));
  EXPECT_EQ(info["output_top_logprobs"], (Json::array({Json::array({{-0.125, 7 + 'x', "x"}})})));
  EXPECT_TRUE(info["input_top_logprobs"][0].is_null());
  EXPECT_EQ(Post("/generate", {{"text", "ab"}, {"return_logprob", true}})
                .json()["meta_info"]["input_token_logprobs"],
            Json::array());
}

TEST_F(RouteTest, GenerateRefusesWhatItDoesNotKnow) {
  StartServer();
  const std::vector<std::tuple<Json, const char*, const char*>> rows{
      {Json::object(), "missing_required_parameter", "text"},
      {{{"text", "a"}, {"input_ids", {8}}}, "invalid_value", "input_ids"},
      {{{"text", {8}}}, "invalid_type", "text"},
      {{{"input_ids", "a"}}, "invalid_type", "input_ids"},
      {{{"input_ids", {300}}}, "invalid_value", "input_ids[0]"},
      {{{"text", "a"}, {"sampling_params", {{"temperature", 3}}}},
       "out_of_range",
       "sampling_params.temperature"},
      {{{"text", "a"}, {"sampling_params", {{"max_new_tokens", 2000}}}}, "context_length_exceeded", "text"},
      {{{"text", "a"}, {"image_data", "x"}}, "unsupported_parameter", "image_data"},
      {{{"text", "a"}, {"lora_path", "x"}}, "unsupported_parameter", "lora_path"},
      {{{"text", "a"}, {"return_progress", true}, {"stream", true}},
       "unsupported_parameter",
       "return_progress"},
  };
  for (const auto& [body, code, param] : rows) {
    ExpectRefused(Post("/generate", body), 400, kInvalid, code, param);
  }
  EXPECT_EQ(
      Post("/generate", {{"text", "a"}, {"lora_path", nullptr}, {"return_hidden_states", false}}).status,
      200);
}

TEST_F(RouteTest, FlushCacheNeedsAnIdleEngine) {
  Script script;
  script.hold = true;
  StartServer(script);
  EXPECT_EQ(Post("/flush_cache", Json::object()).status, 200);
  EXPECT_EQ(Get("/flush_cache").status, 200);
  EXPECT_EQ(engine_->flushes(), 2);
  RawClient busy(server_->port());
  busy.Send(PostText("/v1/completions", R"({"model":"tiny","prompt":"a"})"));
  ASSERT_TRUE(Eventually([this] { return engine_->running() == 1; }));
  ExpectRefused(Get("/flush_cache"), 400, "invalid_request_error", "cache_in_use");
  EXPECT_EQ(engine_->flushes(), 2);
}

TEST_F(RouteTest, AbortRequestEndsTheOneItNames) {
  Script script;
  script.hold = true;
  StartServer(script);
  RawClient first(server_->port());
  RawClient second(server_->port());
  first.Send(PostText("/v1/completions", R"({"model":"tiny","prompt":"a","rid":"one"})"));
  second.Send(
      PostText("/v1/completions", R"({"model":"tiny","prompt":"a","stream":true})", "X-Request-Id: two\r\n"));
  ASSERT_TRUE(Eventually([this] { return engine_->running() == 2; }));
  EXPECT_EQ(Post("/abort_request", {{"rid", "three"}}).json()["aborted"], 0);
  EXPECT_EQ(Post("/abort_request", {{"rid", "one"}}).json()["aborted"], 1);
  const RawAnswer answer = first.ReadAnswer();
  ExpectRefused(answer, 409, "invalid_request_error", "aborted");
  EXPECT_EQ(answer.header("x-should-retry"), "false");
  // The list forgets a request after its answer is out.
  ASSERT_TRUE(Eventually([this] { return Post("/abort_request", {{"rid", "one"}}).json()["aborted"] == 0; }));
  EXPECT_EQ(engine_->running(), 1U);
  EXPECT_EQ(Post("/abort_request", {{"rid", ""}, {"abort_all", true}}).json()["aborted"], 1);
  const auto events = EventsOf(second.ReadAnswer().body);
  EXPECT_EQ(Json::parse(events.at(events.size() - 2))["error"]["code"], "aborted");
  EXPECT_EQ(events.back(), "[DONE]");
  ASSERT_TRUE(Eventually([this] { return engine_->running() == 0; }));
  ExpectRefused(Post("/abort_request", Json::object()), 400, "invalid_request_error",
                "missing_required_parameter", "rid");
}

TEST_F(RouteTest, HealthGenerateIsOneTokenAheadOfTheQueue) {
  options_.health_timeout = std::chrono::milliseconds(100);
  StartServer(AnswerOf("xyz"));
  engine_->SetQueueFull("many wait", 1);
  EXPECT_EQ(Get("/health_generate").json(), (Json{{"status", "ok"}}));
  const engine::Request probe = engine_->requests().at(0);
  EXPECT_TRUE(probe.probe);
  EXPECT_EQ(probe.max_tokens, 1);
  server_.reset();
  Script silent;
  silent.hold = true;
  StartServer(silent);
  engine_->SetStall("rank 1 (stage 1, lane 0) did not arrive");
  const RawAnswer late = Get("/health_generate");
  ExpectRefused(late, 503, "unavailable_error", "no_token");
  EXPECT_NE(late.body.find("rank 1 (stage 1, lane 0)"), std::string::npos);
  EXPECT_TRUE(Eventually([this] { return engine_->running() == 0; })) << "a probe that is late is given up";
  engine_->SetVerdict("rank 1 (stage 1, lane 0) is gone");
  ExpectRefused(Get("/health_generate"), 503, "unavailable_error", "rank_lost");
}

TEST_F(RouteTest, ProfilesHaveSglangsFields) {
  StartServer(AnswerOf("x"));
  ExpectRefused(Post("/stop_profile", Json::object()), 400, "invalid_request_error", "invalid_value");
  const Json plain = PostRaw("/start_profile", "", "").json();
  EXPECT_EQ(plain["success"], true);
  EXPECT_EQ(plain["notes"], Json::array());
  ExpectRefused(Get("/start_profile"), 400, "invalid_request_error", "invalid_value");
  const Json stopped = Get("/stop_profile").json();
  EXPECT_EQ(stopped["files"], (Json{"rank-0.sltrace"}));
  EXPECT_EQ(stopped["events"], 7);
  EXPECT_EQ(stopped["lost"], 2);

  const Json all = {{"output_dir", "traces"},   {"start_step", 3},
                    {"num_steps", 5},           {"activities", {"CPU", "GPU", "MEM"}},
                    {"profile_by_stage", true}, {"with_stack", true},
                    {"record_shapes", true},    {"merge_profiles", true},
                    {"profile_prefix", "p-1"},  {"profile_stages", {"decode"}},
                    {"profile_id", "x"}};
  const Json notes = Post("/start_profile", all).json()["notes"];
  const engine::ProfileRequest asked = engine_->profile();
  EXPECT_EQ(asked.output_dir, "traces");
  EXPECT_EQ(asked.start_step, 3);
  EXPECT_EQ(asked.num_steps, 5);
  EXPECT_TRUE(asked.merge);
  EXPECT_EQ(asked.prefix, "p-1");
  // A sentence for each wish that does not come true, which begins with the field's name.
  std::vector<std::string> begins;
  for (const std::string note : notes) begins.push_back(note.substr(0, note.find(':')));
  EXPECT_EQ(begins,
            (std::vector<std::string>{"activities", "activities", "profile_by_stage", "profile_stages",
                                      "with_stack", "record_shapes", "profile_id"}));
  Get("/stop_profile");
  ExpectRefused(Post("/start_profile", {{"profile_prefix", "../x"}}), 400, kInvalid, "invalid_value",
                "profile_prefix");
  ExpectRefused(Post("/start_profile", {{"num_steps", 0}}), 400, kInvalid, "out_of_range", "num_steps");
  ExpectRefused(Post("/start_profile", {{"activities", {1}}}), 400, kInvalid, "invalid_type", "activities");
  EXPECT_EQ(Post("/dump_trace", {{"output_dir", "d"}}).json()["files"], (Json{"d/rank-0.sltrace"}));
  ExpectRefused(Post("/dump_trace", {{"output_dir", "full"}}), 400, kInvalid, "invalid_value", "output_dir");
}

// Every field that a schema names is one that the route reads, and every route answers only declared
// statuses.
TEST_F(RouteTest, TheDescriptionIsHonest) {
  StartServer(AnswerOf("x"));
  const Json document = Get("/openapi.json").json();
  std::size_t operations = 0;
  for (const RouteRow& row : Routes()) {
    ++operations;
    std::string path(row.path);
    if (row.path == kModelPrefix) path += "{id}";
    std::string method(row.method == "GET" ? "get" : "post");
    ASSERT_TRUE(document["paths"][path].contains(method)) << path;
    const Json& operation = document["paths"][path][method];
    for (const char* status : {"200", "400", "401", "405", "408", "413", "431", "500", "503"}) {
      EXPECT_TRUE(operation["responses"].contains(status)) << path << status;
    }
    EXPECT_EQ(operation["responses"].contains("403"), row.audience == Audience::kControl) << path;
    EXPECT_EQ(operation.contains("requestBody"), row.body != BodyKind::kNone) << path;
    if (row.body == BodyKind::kNone) continue;
    EXPECT_TRUE(operation["responses"].contains("415")) << path;
    Json body = {{"model", "tiny"}};
    if (row.body == BodyKind::kChat || row.body == BodyKind::kChatPrompt)
      body["messages"] = Json::array({Json{{"role", "user"}, {"content", "a"}}});
    if (row.body == BodyKind::kCompletion || row.body == BodyKind::kTokenize) body["prompt"] = "a";
    if (row.body == BodyKind::kGenerate) body = {{"text", "a"}};
    if (row.body == BodyKind::kDetokenize) body["tokens"] = Json::array({8});
    if (row.body == BodyKind::kAbort) body = {{"rid", "a"}};
    if (row.body == BodyKind::kProfile || row.body == BodyKind::kDump) body = Json::object();
    const Json& schema = operation["requestBody"]["content"]["application/json"]["schema"];
    for (const auto& [name, field] : schema["properties"].items()) {
      if (!body.contains(name)) body[name] = nullptr;
    }
    const RawAnswer answer = Post(std::string(row.path), body);
    EXPECT_EQ(answer.status, 200) << path << answer.body;
    EXPECT_EQ(answer.header("x-ignored-fields"), "") << path;
  }
  EXPECT_EQ(operations, Routes().size());
  const Json& temperature = document["paths"]["/v1/completions"]["post"]["requestBody"]["content"]
                                    ["application/json"]["schema"]["properties"]["temperature"];
  EXPECT_EQ(temperature["minimum"], 0.0);
  EXPECT_EQ(temperature["maximum"], 2.0);
}

}  // namespace
}  // namespace sluice::serve
