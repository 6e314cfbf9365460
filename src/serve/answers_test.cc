#include <cmath>

#include "serve/server_fixture.h"
#include "serve/token_text.h"

namespace sluice::serve {
namespace {

class AnswerTest : public ServerTest {};

TEST_F(AnswerTest, ACompletionHasOpenAisShape) {
  StartServer("Hello");
  const RawAnswer answer = Complete({{"max_tokens", 10}});
  ASSERT_EQ(answer.status, 200) << answer.body;
  const Json body = answer.json();
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["model"], "tiny");
  EXPECT_EQ(body["system_fingerprint"], "sluice-test");
  EXPECT_EQ(body["id"].get<std::string>().rfind("cmpl-", 0), 0U);
  EXPECT_GT(body["created"].get<int64_t>(), 1'700'000'000);
  EXPECT_EQ(body["choices"], Json::array({Json{{"index", 0},
                                               {"text", "Hello"},
                                               {"logprobs", nullptr},
                                               {"finish_reason", "stop"},
                                               {"stop_reason", nullptr},
                                               {"matched_stop", 1}}}));
  EXPECT_EQ(body["usage"]["prompt_tokens"], 2);
  EXPECT_EQ(body["usage"]["completion_tokens"], 5);
  EXPECT_EQ(body["usage"]["total_tokens"], 7);
}

TEST_F(AnswerTest, TheEngineGetsWhatWasAsked) {
  StartServer("x");
  Complete({{"max_tokens", 7},
            {"temperature", 0.5},
            {"top_p", 0.25},
            {"top_k", 9},
            {"seed", -3},
            {"logprobs", 2},
            {"stop_token_ids", {20, 30}},
            {"prompt", {7, 8, 9}}});
  Complete({{"ignore_eos", true}, {"top_k", -1}});
  Chat(Json::object());
  const auto requests = engine_->requests();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(requests[0].prompt, (std::vector<int32_t>{7, 8, 9}));
  EXPECT_EQ(requests[0].max_tokens, 7);
  EXPECT_EQ(requests[0].temperature, 0.5F);
  EXPECT_EQ(requests[0].top_p, 0.25F);
  EXPECT_EQ(requests[0].top_k, 9);
  EXPECT_EQ(requests[0].seed, static_cast<uint64_t>(-3));
  EXPECT_EQ(requests[0].top_logprobs, 2);
  EXPECT_FALSE(requests[0].prompt_logprobs);
  EXPECT_EQ(requests[0].stop_token_ids, (std::vector<int32_t>{1, 20, 30}));
  EXPECT_EQ(requests[1].stop_token_ids, std::vector<int32_t>());
  EXPECT_EQ(requests[1].max_tokens, 16);
  EXPECT_EQ(requests[1].top_k, 0);
  // <bos> <User> a b <Assistant> </think>
  EXPECT_EQ(requests[2].prompt, (std::vector<int32_t>{0, 2, 7 + 'a', 7 + 'b', 3, 5}));
  EXPECT_EQ(requests[2].max_tokens, 994);
}

TEST_F(AnswerTest, TheDefaultOfSixteenGivesWayToTheContext) {
  StartServer("x");
  Complete({{"prompt", std::string(995, '!')}});
  EXPECT_EQ(engine_->requests().at(0).max_tokens, 5);
}

TEST_F(AnswerTest, EchoWithLogprobsAndNoTokens) {
  StartServer("Hello");
  const Json choice = Complete({{"echo", true}, {"logprobs", 1}, {"max_tokens", 0}, {"prompt", "h\xC3\xA9!"}})
                          .json()["choices"][0];
  EXPECT_EQ(choice["text"], "h\xC3\xA9!");
  EXPECT_EQ(choice["finish_reason"], "length");
  const Json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], (Json{"h", "bytes:\\xc3", "bytes:\\xa9", "!"}));
  EXPECT_EQ(logprobs["token_logprobs"], (Json{nullptr, -0.5, -0.75, -1.0}));
  EXPECT_EQ(logprobs["text_offset"], (Json{0, 1, 1, 2}));
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  EXPECT_EQ(logprobs["top_logprobs"][3], (Json{{"!", -1.0}}));
}

TEST_F(AnswerTest, EchoJoinsPromptAndAnswer) {
  StartServer("cd");
  const Json choice = Complete({{"echo", true}, {"logprobs", 2}, {"max_tokens", 2}}).json()["choices"][0];
  EXPECT_EQ(choice["text"], "abcd");
  EXPECT_EQ(choice["logprobs"]["tokens"], (Json{"a", "b", "c", "d"}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], (Json{0, 1, 2, 3}));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], (Json{nullptr, -0.5, -0.125, -0.25}));
  EXPECT_EQ(choice["logprobs"]["top_logprobs"][2], (Json{{"c", -0.125}, {"d", -0.1875}}));
  // The same out of a stream.
  std::string text;
  Json tokens = Json::array();
  Json offsets = Json::array();
  for (const std::string& event :
       EventsOf(Complete({{"echo", true}, {"logprobs", 2}, {"max_tokens", 2}, {"stream", true}}).body)) {
    if (event == "[DONE]") break;
    const Json chunk = Json::parse(event)["choices"][0];
    text += chunk["text"].get<std::string>();
    if (chunk["logprobs"].is_null()) continue;
    for (const Json& token : chunk["logprobs"]["tokens"]) tokens.push_back(token);
    for (const Json& offset : chunk["logprobs"]["text_offset"]) offsets.push_back(offset);
  }
  EXPECT_EQ(text, "abcd");
  EXPECT_EQ(tokens, choice["logprobs"]["tokens"]);
  EXPECT_EQ(offsets, choice["logprobs"]["text_offset"]);
}

// An evaluation harness asks for one token and takes the last entry for it, whatever token that is.
TEST_F(AnswerTest, EchoListsTheTokenThatEndedTheAnswer) {
  StartServer("");
  const Json fields = {{"echo", true}, {"logprobs", 1}, {"max_tokens", 1}};
  const Json choice = Complete(fields).json()["choices"][0];
  EXPECT_EQ(choice["text"], "ab");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], (Json{nullptr, -0.5, -0.125}));
  EXPECT_EQ(choice["logprobs"]["text_offset"].size(), 3U);
  Json values = Json::array();
  Json streamed = fields;
  streamed["stream"] = true;
  for (const std::string& event : EventsOf(Complete(streamed).body)) {
    if (event == "[DONE]") break;
    const Json chunk = Json::parse(event)["choices"][0];
    if (chunk["logprobs"].is_null()) continue;
    for (const Json& value : chunk["logprobs"]["token_logprobs"]) values.push_back(value);
  }
  EXPECT_EQ(values, choice["logprobs"]["token_logprobs"]);
  EXPECT_EQ(Complete({{"logprobs", 1}, {"max_tokens", 1}}).json()["choices"][0]["logprobs"]["tokens"].size(),
            0U);
}

TEST_F(AnswerTest, LogprobsZeroStillHasTheTokenItself) {
  StartServer("c");
  const Json logprobs = Complete({{"logprobs", 0}}).json()["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["top_logprobs"], Json::array({Json{{"c", -0.125}}}));
}

TEST_F(AnswerTest, ReturnTokenIds) {
  StartServer("cd");
  const Json choice = Complete({{"return_token_ids", true}, {"prompt", {9, 10}}}).json()["choices"][0];
  EXPECT_EQ(choice["prompt_token_ids"], (Json{9, 10}));
  EXPECT_EQ(choice["token_ids"], (Json{7 + 'c', 7 + 'd'}));
  const Json chat = Chat({{"return_token_ids", true}}).json();
  EXPECT_EQ(chat["prompt_token_ids"].size(), 6U);
  EXPECT_EQ(chat["choices"][0]["token_ids"], (Json{7 + 'c', 7 + 'd'}));
  for (const char* path : {"/v1/completions", "/v1/chat/completions"}) {
    Json body = {{"model", "tiny"}, {"stream", true}, {"return_token_ids", true}};
    body["prompt"] = {9, 10};
    if (std::string(path) != "/v1/completions") {
      body.erase("prompt");
      body["messages"] = Json::array({Json{{"role", "user"}, {"content", "a"}}});
    }
    Json ids = Json::array();
    int prompts = 0;
    for (const std::string& event : EventsOf(Post(path, body).body)) {
      if (event == "[DONE]") break;
      const Json chunk = Json::parse(event);
      prompts +=
          chunk.contains("prompt_token_ids") || chunk["choices"][0].contains("prompt_token_ids") ? 1 : 0;
      for (const Json& id : chunk["choices"][0].value("token_ids", Json::array())) ids.push_back(id);
    }
    EXPECT_EQ(ids, (Json{7 + 'c', 7 + 'd'})) << path;
    EXPECT_EQ(prompts, 1) << path;
  }
}

TEST_F(AnswerTest, ChatLogprobs) {
  StartServer("c\xC3");
  const Json choice = Chat({{"logprobs", true}, {"top_logprobs", 2}}).json()["choices"][0];
  EXPECT_EQ(choice["message"],
            (Json{{"role", "assistant"}, {"content", "c\xEF\xBF\xBD"}, {"refusal", nullptr}}));
  const Json& content = choice["logprobs"]["content"];
  ASSERT_EQ(content.size(), 2U);
  EXPECT_EQ(content[0]["token"], "c");
  EXPECT_EQ(content[0]["bytes"], (Json{'c'}));
  EXPECT_EQ(content[0]["logprob"], -0.125);
  EXPECT_EQ(content[0]["top_logprobs"][1]["token"], "d");
  EXPECT_EQ(content[1]["token"], "bytes:\\xc3");
  EXPECT_EQ(content[1]["bytes"], (Json{0xC3}));
}

TEST_F(AnswerTest, ListsOfPromptsKeepTheirOrder) {
  StartServer("x");
  for (const Json& prompt : {Json{"a", "bb", "ccc"}, Json::array({{8}, {8, 8}, {8, 8, 8}})}) {
    const Json body = Complete({{"prompt", prompt}, {"return_token_ids", true}}).json();
    ASSERT_EQ(body["choices"].size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(body["choices"][i]["index"], i);
      EXPECT_EQ(body["choices"][i]["prompt_token_ids"].size(), i + 1);
    }
    EXPECT_EQ(body["usage"]["prompt_tokens"], 6);
  }
}

TEST_F(AnswerTest, StopTokenIdsAreReportedAndNotShown) {
  StartServer("abc");
  const Json choice = Complete({{"stop_token_ids", {7 + 'c'}}}).json()["choices"][0];
  EXPECT_EQ(choice["text"], "ab");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["stop_reason"], 7 + 'c');
}

TEST_F(AnswerTest, ChatContentPartsAndDeveloperTurns) {
  StartServer("x");
  Chat(
      {{"messages", Json::array({Json{{"role", "developer"}, {"content", "S"}},
                                 Json{{"role", "user"},
                                      {"content", Json::array({Json{{"type", "text"}, {"text", "a"}},
                                                               Json{{"type", "text"}, {"text", "b"}}})}}})}});
  EXPECT_EQ(engine_->requests().at(0).prompt, (std::vector<int32_t>{0, 7 + 'S', 2, 7 + 'a', 7 + 'b', 3, 5}));
}

TEST_F(AnswerTest, IgnoredFieldsAreListedAndCannotForgeHeaders) {
  StartServer("x");
  const RawAnswer answer =
      Complete({{"user", "u"}, {"evil\r\nX: 1", 1}, {"n", 1}, {"logit_bias", Json::object()}});
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.header("x-ignored-fields"), "user, evil??X??1");
  EXPECT_EQ(answer.header("x"), "");
  EXPECT_EQ(Complete(Json::object()).header("x-ignored-fields"), "");
}

TEST_F(AnswerTest, ModelsAndServerInfo) {
  StartServer("x");
  const Json models = Get("/v1/models").json();
  EXPECT_EQ(models["object"], "list");
  ASSERT_EQ(models["data"].size(), 1U);
  EXPECT_EQ(models["data"][0]["id"], "tiny");
  EXPECT_EQ(models["data"][0]["max_model_len"], 1000);
  EXPECT_EQ(Get("/v1/models/tiny").json()["id"], "tiny");
  EXPECT_EQ(Get("/v1/models/%2Fmodels%2Ftiny").json()["id"], "tiny");
  const Json info = Get("/get_server_info?x=1").json();
  EXPECT_EQ(info["pp_size"], 2);
  EXPECT_EQ(info["nsa_prefill_cp_mode"], "round-robin-split");
  ASSERT_EQ(info["ranks"].size(), 2U);
  EXPECT_EQ(info["ranks"][0]["layers"], Json::array());
  EXPECT_EQ(
      info["ranks"][1].dump(),
      R"({"rank":1,"stage":1,"lane":0,"layers":[[2,4],[6,8]],"mtp_layers":[8],"rows_computed":41,"hop_bytes_sent":42,)"
      R"("hop_bytes_received":43,"hop_selection_bytes_sent":7,"time":{"compute":2.0,"wait":0.5,"hop":0.25,"idle":1.0}})");
  // Rank 1 had 2 s of 4 compute, 1 s of hop; rank 0 has not begun.
  EXPECT_EQ(info["bubble"], 0.75);
  EXPECT_EQ(info["busy_seconds"], 4.0);
  EXPECT_EQ(info["stages"].dump(),
            R"([{"stage":0,"compute":0.0,"wait":0.0,"hop":0.0,"idle":1.0,"bubble":1.0},)"
            R"({"stage":1,"compute":0.5,"wait":0.0,"hop":0.25,"idle":0.25,"bubble":0.5}])");
}

TEST_F(AnswerTest, TheStallReportHasTheTableAsJsonAndAsText) {
  StartServer("x");
  Json report = Get("/stall_report").json();
  EXPECT_EQ(report["status"], "ok");
  EXPECT_EQ(report["verdict"], nullptr);
  engine_->SetStall("rank 0 did not arrive");
  report = Get("/stall_report").json();
  EXPECT_EQ(report["status"], "stalled");
  EXPECT_EQ(report["verdict"], "rank 0 did not arrive");
  EXPECT_EQ(report["due_steps"], Json::array({42}));
  EXPECT_EQ(report["text"], "the table");
  ASSERT_EQ(report["ranks"].size(), 2U);
  EXPECT_EQ(report["ranks"][0]["wait"], nullptr);
  EXPECT_EQ(report["ranks"][1]["host"], "node-b");
  EXPECT_EQ(report["ranks"][1]["wait"].dump(), R"({"op":"hop receive","peer":0,"bytes":4096,"seconds":0.0})");
}

TEST_F(AnswerTest, RequestIdsAndConnections) {
  StartServer("x");
  RawClient client(server_->port());
  client.Send("GET /health HTTP/1.1\r\nx-request-id: my-id.7\r\n\r\nHEAD /health HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.ReadAnswer().header("x-request-id"), "my-id.7");
  EXPECT_NE(client.ReadUntil("Content-Length: 15\r\n\r\n"), "");  // HEAD: no body follows
  client.Send("GET /health HTTP/1.1\r\nConnection: close\r\nx-request-id: a\tb\r\n\r\n");
  const RawAnswer last = client.ReadAnswer();
  EXPECT_EQ(last.body, R"({"status":"ok"})");
  EXPECT_NE(last.header("x-request-id"), "a\tb");
  EXPECT_EQ(last.header("connection"), "close");
  EXPECT_FALSE(client.Read());
}

TEST_F(AnswerTest, ExpectContinueAndHttp10) {
  StartServer("x");
  const std::string body = R"({"model":"tiny","prompt":"a","stream":true})";
  RawClient client(server_->port());
  client.Send(
      fmt::format("POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nExpect: "
                  "100-continue\r\nContent-Length: {}\r\n\r\n",
                  body.size()));
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send(body);
  EXPECT_EQ(EventsOf(client.ReadAnswer().body).back(), "[DONE]");
  const RawAnswer old = SendOnce(
      server_->port(), fmt::format("POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
                                   "Content-Length: {}\r\n\r\n{}",
                                   body.size(), body));
  EXPECT_EQ(old.header("transfer-encoding"), "");
  EXPECT_EQ(EventsOf(old.body).back(), "[DONE]");
}

TEST(JsonText, FloatsReadBackExactly) {
  for (int i = 0; i < 10'000; ++i) {
    const float value = -std::ldexp(1.0F + static_cast<float>(i) * 1.1e-4F, i % 60 - 50);
    const std::string text = ToText(Json(value));
    EXPECT_EQ(std::stof(text), value) << text;
    EXPECT_EQ(std::stod(text), static_cast<double>(value)) << text;
  }
}

}  // namespace
}  // namespace sluice::serve
