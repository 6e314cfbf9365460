#include "serve/errors.h"

#include "serve/server_fixture.h"

namespace sluice::serve {
namespace {

class ErrorTable : public ServerTest {};

TEST_F(ErrorTable, FieldsOfACompletion) {
  StartServer();
  struct Row {
    Json fields;
    const char* code;
    const char* param;
  };
  const std::vector<Row> rows{
      {{{"model", nullptr}}, "missing_required_parameter", "model"},
      {{{"model", 3}}, "invalid_type", "model"},
      {{{"prompt", nullptr}}, "missing_required_parameter", "prompt"},
      {{{"prompt", 3}}, "invalid_type", "prompt"},
      {{{"prompt", ""}}, "invalid_value", "prompt"},
      {{{"prompt", Json::array()}}, "invalid_value", "prompt"},
      {{{"prompt", Json::array({Json::array()})}}, "invalid_value", "prompt"},
      {{{"prompt", {1, 300}}}, "invalid_value", "prompt[1]"},
      {{{"prompt", {-1}}}, "invalid_value", "prompt[0]"},
      {{{"prompt", {1, 2.5}}}, "invalid_type", "prompt[1]"},
      {{{"prompt", {1, "a"}}}, "invalid_type", "prompt[1]"},
      {{{"prompt", {"a", 1}}}, "invalid_type", "prompt[1]"},
      {{{"prompt", {1, 4294967296 + 7}}}, "invalid_value", "prompt[1]"},
      {{{"prompt", Json::array({"a", {1, 999}})}}, "invalid_value", "prompt[1][1]"},
      {{{"prompt", std::vector<std::string>(257, "a")}}, "invalid_value", "prompt"},
      {{{"max_tokens", -1}}, "out_of_range", "max_tokens"},
      {{{"max_tokens", 1.5}}, "invalid_type", "max_tokens"},
      {{{"max_tokens", "5"}}, "invalid_type", "max_tokens"},
      {{{"max_tokens", 18446744073709551615U}}, "out_of_range", "max_tokens"},
      {{{"max_tokens", 999}}, "context_length_exceeded", "prompt"},
      {{{"prompt", std::string(1000, 'x')}}, "context_length_exceeded", "prompt"},
      {{{"temperature", 2.01}}, "out_of_range", "temperature"},
      {{{"temperature", -0.1}}, "out_of_range", "temperature"},
      {{{"top_p", 0}}, "out_of_range", "top_p"},
      {{{"top_p", 1.1}}, "out_of_range", "top_p"},
      {{{"top_k", -2}}, "out_of_range", "top_k"},
      {{{"seed", 9223372036854775808U}}, "out_of_range", "seed"},
      {{{"logprobs", 6}}, "out_of_range", "logprobs"},
      {{{"logprobs", true}}, "invalid_type", "logprobs"},
      {{{"stream", "yes"}}, "invalid_type", "stream"},
      {{{"echo", 1}}, "invalid_type", "echo"},
      {{{"stop", 5}}, "invalid_type", "stop"},
      {{{"stop", {"a", 5}}}, "invalid_type", "stop[1]"},
      {{{"stop", ""}}, "invalid_value", "stop"},
      {{{"stop", std::vector<std::string>(17, "a")}}, "invalid_value", "stop"},
      {{{"stop_token_ids", {1, 300}}}, "invalid_value", "stop_token_ids[1]"},
      {{{"stream_options", {{"include_usage", true}}}}, "invalid_value", "stream_options"},
      {{{"prompt_logprobs", 21}}, "out_of_range", "prompt_logprobs"},
      {{{"prompt_logprobs", true}}, "invalid_type", "prompt_logprobs"},
      {{{"truncate_prompt_tokens", 0}}, "out_of_range", "truncate_prompt_tokens"},
      {{{"truncate_prompt_tokens", -2}}, "out_of_range", "truncate_prompt_tokens"},
      {{{"priority", 1000001}}, "out_of_range", "priority"},
      {{{"deadline_ms", 0}}, "out_of_range", "deadline_ms"},
      {{{"rid", "a b"}}, "invalid_value", "rid"},
      {{{"request_id", std::string(129, 'a')}}, "invalid_value", "request_id"},
      {{{"request_id", "a"}, {"rid", "b"}}, "invalid_value", "rid"},
      {{{"cache_salt", ""}}, "invalid_value", "cache_salt"},
      {{{"extra_key", std::string(257, 'a')}}, "invalid_value", "extra_key"},
      {{{"return_progress", true}}, "invalid_value", "return_progress"},
      {{{"timings", 1}}, "invalid_type", "timings"},
      {{{"n", 0}}, "out_of_range", "n"},
      {{{"n", 129}}, "out_of_range", "n"},
      {{{"best_of", 2}}, "unsupported_parameter", "best_of"},
      {{{"suffix", "x"}}, "unsupported_parameter", "suffix"},
      {{{"frequency_penalty", 2.1}}, "out_of_range", "frequency_penalty"},
      {{{"presence_penalty", -3}}, "out_of_range", "presence_penalty"},
      {{{"repetition_penalty", 0}}, "out_of_range", "repetition_penalty"},
      {{{"repetition_penalty", 2.5}}, "out_of_range", "repetition_penalty"},
      {{{"min_p", 1.1}}, "out_of_range", "min_p"},
      {{{"min_tokens", -1}}, "out_of_range", "min_tokens"},
      {{{"min_tokens", 17}}, "out_of_range", "min_tokens"},
      {{{"logit_bias", Json::array()}}, "invalid_type", "logit_bias"},
      {{{"logit_bias", {{"300", 1}}}}, "invalid_value", "logit_bias"},
      {{{"logit_bias", {{"-1", 1}}}}, "invalid_value", "logit_bias"},
      {{{"logit_bias", {{"a", 1}}}}, "invalid_value", "logit_bias"},
      {{{"logit_bias", {{"5 ", 1}}}}, "invalid_value", "logit_bias"},
      {{{"logit_bias", {{"5", 1}, {"05", 2}}}}, "invalid_value", "logit_bias"},
      {{{"logit_bias", {{"00", 1}}}}, "invalid_value", "logit_bias"},
      {{{"logit_bias", {{"-0", 1}}}}, "invalid_value", "logit_bias"},
      {{{"logit_bias", {{"5", "1"}}}}, "invalid_type", "logit_bias"},
      {{{"logit_bias", {{"5", 100.5}}}}, "out_of_range", "logit_bias"},
      {{{"response_format", "json_object"}}, "invalid_type", "response_format"},
      {{{"response_format", Json::object()}}, "missing_required_parameter", "response_format.type"},
      {{{"response_format", {{"type", "xml"}}}}, "invalid_value", "response_format.type"},
      {{{"response_format", {{"type", "json_schema"}}}},
       "missing_required_parameter",
       "response_format.json_schema"},
      {{{"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "a"}}}}}},
       "missing_required_parameter",
       "response_format.json_schema.schema"},
      {{{"response_format", {{"type", "json_schema"}, {"json_schema", {{"schema", 7}}}}}},
       "invalid_type",
       "response_format.json_schema.schema"},
      {{{"response_format", {{"type", "json_schema"}, {"json_schema", {{"schema", {{"pattern", "a"}}}}}}}},
       "invalid_value",
       "response_format.json_schema.schema"},
      {{{"guided_json", "{\"type\":"}}, "invalid_value", "guided_json"},
      {{{"regex", "(a"}}, "invalid_value", "regex"},
      {{{"regex", ""}}, "invalid_value", "regex"},
      {{{"regex", 3}}, "invalid_type", "regex"},
      {{{"regex", "a"}, {"guided_regex", "b"}}, "invalid_value", "guided_regex"},
      {{{"regex", "a"}, {"response_format", {{"type", "json_object"}}}}, "invalid_value", "regex"},
      {{{"guided_grammar", "a"}}, "unsupported_parameter", "guided_grammar"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.fields.dump().substr(0, 100));
    ExpectRefused(Complete(row.fields), 400, kInvalid, row.code, row.param);
  }
  EXPECT_TRUE(engine_->requests().empty());
}

TEST_F(ErrorTable, FieldsOfAChat) {
  StartServer();
  const auto turn = [](const char* role, Json content) {
    return Json{{"messages", Json::array({Json{{"role", role}, {"content", std::move(content)}}})}};
  };
  struct Row {
    Json fields;
    const char* code;
    const char* param;
  };
  const std::vector<Row> rows{
      {{{"messages", nullptr}}, "missing_required_parameter", "messages"},
      {{{"messages", "hi"}}, "invalid_type", "messages"},
      {{{"messages", Json::array()}}, "invalid_value", "messages"},
      {{{"messages", Json::array({"hi"})}}, "invalid_type", "messages[0]"},
      {{{"messages", Json::array({Json{{"content", "x"}}})}},
       "missing_required_parameter",
       "messages[0].role"},
      {{{"messages", Json::array({Json{{"role", "user"}}})}},
       "missing_required_parameter",
       "messages[0].content"},
      {{{"messages", Json::array({Json{{"role", "assistant"}}})}},
       "missing_required_parameter",
       "messages[0].content"},
      {{{"messages", Json::array({Json{{"role", "assistant"}, {"reasoning_content", ""}}})}},
       "missing_required_parameter",
       "messages[0].content"},
      {{{"messages", Json::array({Json{{"role", "tool"}}})}},
       "missing_required_parameter",
       "messages[0].content"},
      {turn("system", nullptr), "missing_required_parameter", "messages[0].content"},
      {turn("user", nullptr), "missing_required_parameter", "messages[0].content"},
      {turn("tool", nullptr), "missing_required_parameter", "messages[0].content"},
      {turn("wizard", "x"), "invalid_value", "messages[0].role"},
      {turn("function", "x"), "unsupported_parameter", "messages[0].role"},
      {turn("user", 5), "invalid_type", "messages[0].content"},
      {turn("user", Json::array({Json{{"type", "image_url"}}})), "unsupported_parameter",
       "messages[0].content[0].type"},
      {turn("user", Json::array({Json{{"type", "text"}}})), "missing_required_parameter",
       "messages[0].content[0].text"},
      {turn("user", std::string(1000, 'x')), "context_length_exceeded", "messages"},
      {{{"max_completion_tokens", 1000}}, "context_length_exceeded", "messages"},
      {{{"top_logprobs", 2}}, "invalid_value", "top_logprobs"},
      {{{"logprobs", true}, {"top_logprobs", 21}}, "out_of_range", "top_logprobs"},
      {{{"logprobs", 3}}, "invalid_type", "logprobs"},
      {{{"chat_template_kwargs", {{"x", 1}}}}, "unsupported_parameter", "chat_template_kwargs"},
      {{{"modalities", {"audio"}}}, "unsupported_parameter", "modalities"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.fields.dump().substr(0, 100));
    ExpectRefused(Chat(row.fields), 400, kInvalid, row.code, row.param);
  }
  EXPECT_NE(Chat(turn("user", std::string(1000, 'x'))).body.find("maximum context length"),
            std::string::npos);
}

TEST_F(ErrorTable, BodiesThatAreNotJsonObjects) {
  StartServer();
  for (const char* body :
       {"", "{", "[]", R"({"a":1,"a":2})", R"({"a":NaN})", "{\"a\":\"\xFF\"}", R"({"a":"\ud800"})"}) {
    SCOPED_TRACE(body);
    ExpectRefused(PostRaw("/v1/completions", body), 400, kInvalid, "invalid_json");
  }
  ExpectRefused(PostRaw("/v1/completions", std::string(70, '[') + std::string(70, ']')), 400, kInvalid,
                "invalid_json");
}

TEST_F(ErrorTable, ModelsAndRoutes) {
  StartServer();
  ExpectRefused(Complete({{"model", "gpt"}}), 404, kInvalid, "model_not_found", "model");
  ExpectRefused(Get("/v1/models/gpt"), 404, kInvalid, "model_not_found", "model");
  ExpectRefused(Get("/v1/embeddings"), 404, kInvalid, "unknown_url");
  ExpectRefused(Get("/\xFF"), 404, kInvalid, "unknown_url");
  ExpectRefused(Get("/%FF"), 404, kInvalid, "unknown_url");
  const RawAnswer wrong = Get("/v1/completions");
  ExpectRefused(wrong, 405, kInvalid, "method_not_allowed");
  EXPECT_EQ(wrong.header("allow"), "POST");
  const RawAnswer deleted = SendOnce(server_->port(), "DELETE /health HTTP/1.1\r\nHost: t\r\n\r\n");
  ExpectRefused(deleted, 405, kInvalid, "method_not_allowed");
  EXPECT_EQ(deleted.header("allow"), "GET, HEAD");
  EXPECT_EQ(Complete({{"model", "/models/tiny"}}).status, 200);
}

TEST_F(ErrorTable, MediaTypes) {
  StartServer();
  const std::string body = R"({"model":"tiny","prompt":"a"})";
  for (const char* type :
       {"text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"}) {
    ExpectRefused(PostRaw("/v1/completions", body, "", type), 415, kInvalid, "unsupported_media_type");
  }
  ExpectRefused(PostRaw("/v1/completions", body, "Content-Encoding: gzip\r\n"), 415, kInvalid,
                "unsupported_media_type");
  EXPECT_EQ(PostRaw("/v1/completions", body, "", "application/json; charset=UTF-8").status, 200);
}

TEST_F(ErrorTable, SizesAndTimes) {
  options_.max_body_bytes = 10'000;
  options_.max_header_bytes = 4096;
  options_.header_timeout = std::chrono::milliseconds(500);
  options_.body_timeout = std::chrono::milliseconds(500);
  StartServer();
  ExpectRefused(PostRaw("/v1/completions", std::string(10'001, ' ')), 413, kInvalid, "request_too_large");
  EXPECT_EQ(PostRaw("/v1/completions", R"({"model":"tiny","prompt":"a"})" + std::string(9'900, ' ')).status,
            200);
  ExpectRefused(SendOnce(server_->port(),
                         "POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n" +
                             std::string(0x4000, ' ') + "\r\n0\r\n\r\n"),
                413, kInvalid, "request_too_large");
  ExpectRefused(
      SendOnce(server_->port(), "GET /health HTTP/1.1\r\nX-Big: " + std::string(8192, 'a') + "\r\n\r\n"), 431,
      kInvalid, "headers_too_large");
  for (const char* part :
       {"", "GET /health HT", "POST /v1/completions HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"}) {
    RawClient slow(server_->port());
    slow.Send(part);
    const RawAnswer answer = slow.ReadAnswer();
    ExpectRefused(answer, 408, kInvalid, "request_timeout");
    EXPECT_EQ(answer.header("connection"), "close");
    EXPECT_FALSE(slow.Read());
  }
  ExpectRefused(SendOnce(server_->port(), "NONSENSE\r\n\r\n"), 400, kInvalid, "bad_http");
  ExpectRefused(SendOnce(server_->port(),
                         "POST /health HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"),
                400, kInvalid, "bad_http");
}

TEST_F(ErrorTable, TooManyPromptsAtOnce) {
  options_.max_prompts = 3;
  Script script;
  script.hold = true;
  StartServer(script);
  // Alone more than there is room for: never to be taken, so it is not to be tried again.
  ExpectRefused(Complete({{"prompt", {"a", "b"}}, {"n", 2}}), 400, kInvalid, "out_of_range", "n");
  // Before anything is made of the prompts, of which the second is too long: a choice copies its prompt.
  ExpectRefused(Complete({{"prompt", {"a", std::string(1200, 'a')}}, {"n", 2}}), 400, kInvalid,
                "out_of_range", "n");
  EXPECT_EQ(engine_->running(), 0U);
  {
    RawClient holds(server_->port());
    holds.Send(PostText("/v1/completions", R"({"model":"tiny","prompt":["a","b"]})"));
    ASSERT_TRUE(Eventually([this] { return engine_->running() == 2U; }));
    const RawAnswer many = Complete({{"prompt", {"a", "b"}}});
    ExpectRefused(many, 503, "overloaded_error", "queue_full");
    EXPECT_EQ(many.header("retry-after"), "1");
    EXPECT_EQ(engine_->running(), 2U);
  }
  EXPECT_TRUE(Eventually([this] { return engine_->running() == 0U; }));
}

// Apart from the prompts: the server notices a moment later that a client is gone, and counts it until then.
TEST_F(ErrorTable, TooManyConnectionsAtOnce) {
  options_.max_connections = 2;
  StartServer();
  {
    RawClient first(server_->port());
    RawClient second(server_->port());
    first.Send("GET /health HTTP/1.1\r\n\r\n");
    second.Send("GET /health HTTP/1.1\r\n\r\n");
    first.ReadAnswer();
    second.ReadAnswer();
    ExpectRefused(Get("/health"), 503, "overloaded_error", "queue_full");
  }
  EXPECT_TRUE(Eventually([this] { return Get("/health").status == 200; }));
}

TEST_F(ErrorTable, AVerdictIsUnavailable) {
  StartServer();
  EXPECT_EQ(Get("/health").json(), (Json{{"status", "ok"}}));
  engine_->SetVerdict("rank 5 (stage 2, lane 1) has not arrived at step 42");
  for (const RawAnswer& answer : {Get("/health"), Complete(Json::object()), Chat({{"stream", true}})}) {
    ExpectRefused(answer, 503, "unavailable_error", "rank_lost");
    EXPECT_NE(answer.body.find("rank 5 (stage 2, lane 1) has not arrived at step 42"), std::string::npos);
    EXPECT_EQ(answer.header("retry-after"), "10");
  }
}

TEST_F(ErrorTable, AStallIsNotReadyButLiveAndPasses) {
  StartServer();
  engine_->SetStall("rank 1 (stage 1, lane 0) did not arrive");
  for (const char* path : {"/ready", "/health"}) {
    const RawAnswer answer = Get(path);
    ExpectRefused(answer, 503, "unavailable_error", "stalled");
    EXPECT_NE(answer.body.find("rank 1 (stage 1, lane 0) did not arrive"), std::string::npos);
    EXPECT_EQ(answer.header("retry-after"), "5");
  }
  EXPECT_EQ(Get("/live").json(), (Json{{"status", "ok"}}));
  EXPECT_EQ(Complete(Json::object()).status, 200) << "a stall may pass: requests are still taken";
  engine_->SetStall("");
  EXPECT_EQ(Get("/ready").json(), (Json{{"status", "ok"}}));
  engine_->SetVerdict("rank 1 (stage 1, lane 0) is gone");
  ExpectRefused(Get("/ready"), 503, "unavailable_error", "rank_lost");
  EXPECT_EQ(Get("/live").status, 200);
}

TEST(ApiErrors, OurOwnFaultsAreAnsweredWithAnIncidentAlone) {
  const ApiError error = ToApiError(std::runtime_error("secret at 0x7ffd"));
  EXPECT_EQ(error.status(), 500);
  EXPECT_EQ(error.Body()["error"]["type"], "server_error");
  EXPECT_EQ(error.Body().dump().find("secret"), std::string::npos);
  EXPECT_EQ(error.Response().headers.front().first, "x-should-retry");
}

TEST(Bind, AnAddressInUseIsNamedWithARemedy) {
  FakeEngine engine(TestEngineInfo(), [](const engine::Request&) { return Script{}; });
  Server first({}, engine, TestTokenizer(), TestServerInfo());
  first.Start();
  ServerOptions options;
  options.port = first.port();
  Server second(options, engine, TestTokenizer(), TestServerInfo());
  try {
    second.Start();
    FAIL() << "two servers on one port";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNetwork);
    EXPECT_NE(std::string(error.what()).find("127.0.0.1 port " + std::to_string(first.port())),
              std::string::npos);
    EXPECT_NE(std::string(error.what()).find("--port"), std::string::npos);
  }
}

}  // namespace
}  // namespace sluice::serve
