#include "serve/server_fixture.h"

namespace sluice::serve {
namespace {

class StreamTest : public ServerTest {};

TEST_F(StreamTest, ChatChunksComeInTheDocumentedOrder) {
  StartServer(AnswerOf("Hi \xE4\xBD\xA0"));  // three bytes, three tokens, one character
  const RawAnswer answer = Chat({{"stream", true}, {"stream_options", {{"include_usage", true}}}});
  ASSERT_TRUE(answer.complete);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.header("content-type"), "text/event-stream");
  const auto events = EventsOf(answer.body);
  ASSERT_EQ(events.back(), "[DONE]");
  const auto chunks = Chunks(events);
  ASSERT_EQ(chunks.size(), 7U);  // role, "H", "i", " ", the character, finish, usage
  for (const Json& chunk : chunks) {
    EXPECT_EQ(chunk["object"], "chat.completion.chunk");
    EXPECT_EQ(chunk["id"], chunks[0]["id"]);
    EXPECT_EQ(chunk["created"], chunks[0]["created"]);
    EXPECT_EQ(chunk["model"], "tiny");
    EXPECT_EQ(chunk["system_fingerprint"], "sluice-test");
    ASSERT_TRUE(chunk.contains("usage"));
  }
  EXPECT_EQ(chunks[0]["choices"][0]["delta"], (Json{{"role", "assistant"}, {"content", ""}}));
  std::string text;
  for (std::size_t i = 0; i + 1 < chunks.size(); ++i) {
    const Json& choice = chunks[i]["choices"][0];
    EXPECT_TRUE(chunks[i]["usage"].is_null());
    ASSERT_TRUE(choice.contains("finish_reason"));
    EXPECT_EQ(choice["finish_reason"], i == 5 ? Json("stop") : Json(nullptr));
    EXPECT_EQ(choice["delta"].contains("role"), i == 0);
    if (choice["delta"].contains("content")) text += choice["delta"]["content"].get<std::string>();
  }
  EXPECT_EQ(chunks[5]["choices"][0]["delta"], Json::object());
  EXPECT_EQ(text, "Hi \xE4\xBD\xA0");
  EXPECT_EQ(chunks[6]["choices"], Json::array());
  EXPECT_EQ(chunks[6]["usage"]["completion_tokens"], 6);
  EXPECT_EQ(chunks[6]["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

TEST_F(StreamTest, WithoutIncludeUsageThereIsNone) {
  StartServer(AnswerOf("abc"));
  for (const Json& chunk : Chunks(EventsOf(Complete({{"stream", true}}).body))) {
    EXPECT_FALSE(chunk.contains("usage"));
    EXPECT_EQ(chunk["object"], "text_completion");
    EXPECT_EQ(chunk["choices"].size(), 1U);
  }
}

TEST_F(StreamTest, ContinuousUsageRunsInEveryChunk) {
  StartServer(AnswerOf("abc"));
  const auto chunks = Chunks(
      EventsOf(Complete({{"stream", true}, {"stream_options", {{"continuous_usage_stats", true}}}}).body));
  ASSERT_EQ(chunks.size(), 4U);
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(chunks[static_cast<std::size_t>(i)]["usage"]["completion_tokens"], std::min<int64_t>(i + 1, 3));
  }
}

TEST_F(StreamTest, AnEmptyAnswerStillHasRoleAndFinish) {
  StartServer(AnswerOf(""));
  const auto chunks = Chunks(EventsOf(Chat({{"stream", true}}).body));
  ASSERT_EQ(chunks.size(), 2U);
  EXPECT_EQ(chunks[0]["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(chunks[1]["choices"][0]["finish_reason"], "stop");
}

TEST_F(StreamTest, AnIncompleteCharacterBecomesOneReplacementAtTheEnd) {
  StartServer(AnswerOf("a\xF0\x9F\x98"));
  const auto chunks = Chunks(EventsOf(Complete({{"stream", true}}).body));
  std::string text;
  for (const Json& chunk : chunks) text += chunk["choices"][0]["text"].get<std::string>();
  EXPECT_EQ(text, "a\xEF\xBF\xBD");
}

TEST_F(StreamTest, StopStringsAreHeldBackAndCutAndEndTheEngineToo) {
  Script script = AnswerOf("one STOP two");
  script.tokens.pop_back();
  script.hold = true;
  script.tokens.resize(9);  // "one STOP " and then silence
  StartServer(script);
  const auto chunks = Chunks(EventsOf(Complete({{"stream", true}, {"stop", {"STOP", "never"}}}).body));
  std::string text;
  for (const Json& chunk : chunks) text += chunk["choices"][0]["text"].get<std::string>();
  EXPECT_EQ(text, "one ");
  EXPECT_EQ(chunks.back()["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(chunks.back()["choices"][0]["stop_reason"], "STOP");
  EXPECT_TRUE(Eventually([this] { return engine_->aborts() == 1 && engine_->running() == 0; }));
}

TEST_F(StreamTest, ReasoningComesBeforeContent) {
  Script script;
  script.tokens = ByteTokens("why");
  script.tokens.push_back(5);
  for (const int32_t id : ByteTokens("so")) script.tokens.push_back(id);
  script.tokens.push_back(1);
  StartServer(script);
  const Json thinking = {{"chat_template_kwargs", {{"thinking", true}}}, {"stream", true}};
  std::string reasoning;
  std::string content;
  for (const Json& chunk : Chunks(EventsOf(Chat(thinking).body))) {
    const Json& delta = chunk["choices"][0]["delta"];
    if (delta.contains("reasoning_content")) {
      EXPECT_EQ(content, "");
      reasoning += delta["reasoning_content"].get<std::string>();
    }
    if (delta.contains("content")) content += delta["content"].get<std::string>();
  }
  EXPECT_EQ(reasoning, "why");
  EXPECT_EQ(content, "so");
}

TEST_F(StreamTest, SeveralPromptsFinishOncePerIndex) {
  StartServer(AnswerOf("abc"));
  std::map<int64_t, std::string> texts;
  std::map<int64_t, int> finishes;
  const auto events = EventsOf(Complete({{"stream", true}, {"prompt", {"a", "b", "c"}}}).body);
  for (const Json& chunk : Chunks(events)) {
    const Json& choice = chunk["choices"][0];
    texts[choice["index"]] += choice["text"].get<std::string>();
    finishes[choice["index"]] += choice["finish_reason"].is_null() ? 0 : 1;
  }
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(texts[i], "abc");
    EXPECT_EQ(finishes[i], 1);
  }
}

TEST_F(StreamTest, KeepAliveCommentsComeFromTheClock) {
  options_.keep_alive = std::chrono::milliseconds(50);
  Script script;
  script.hold = true;
  StartServer(script);
  RawClient client(server_->port());
  client.Send(PostText("/v1/completions", R"({"model":"tiny","prompt":"a","stream":true})"));
  EXPECT_NE(client.ReadUntil("\r\n\r\n").find("200 OK"), std::string::npos);
  for (int i = 0; i < 3; ++i) EXPECT_NE(client.ReadUntil(": keep-alive\n\n"), "");
}

TEST_F(StreamTest, AClientThatLeavesEndsItsRequest) {
  Script script;
  script.hold = true;
  StartServer(script);
  for (const char* stream : {"true", "false"}) {
    RawClient client(server_->port());
    client.Send(PostText("/v1/completions",
                         fmt::format(R"({{"model":"tiny","prompt":["a","b"],"stream":{}}})", stream)));
    ASSERT_TRUE(Eventually([this] { return engine_->running() == 2; }));
    client.Close();
    ASSERT_TRUE(Eventually([this] { return engine_->running() == 0; }));
  }
  EXPECT_EQ(engine_->aborts(), 4);
}

TEST_F(StreamTest, AnErrorAfterTheHeadersIsANestedEventThenDone) {
  Script script;
  script.tokens = ByteTokens("ab");
  script.error = "rank 3 met a NaN in layer 7";
  StartServer(script);
  const auto events = EventsOf(Chat({{"stream", true}}).body);
  ASSERT_EQ(events.size(), 5U);
  const Json error = Json::parse(events[3]);
  EXPECT_EQ(error["error"]["message"], script.error);
  EXPECT_EQ(error["error"]["code"], "internal");
  EXPECT_EQ(events[4], "[DONE]");
}

TEST_F(StreamTest, AVerdictEndsWhatIsUnderWayEvenWhenTheEngineIsSilent) {
  Script script;
  script.hold = true;
  StartServer(script);
  RawClient stream(server_->port());
  stream.Send(PostText("/v1/completions", R"({"model":"tiny","prompt":"a","stream":true})"));
  RawClient whole(server_->port());
  whole.Send(PostText("/v1/completions", R"({"model":"tiny","prompt":"a"})"));
  ASSERT_TRUE(Eventually([this] { return engine_->running() == 2; }));
  engine_->SetVerdict("rank 2 (stage 1, lane 0) was killed");
  const auto events = EventsOf(stream.ReadAnswer().body);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(Json::parse(events[0])["error"]["code"], "rank_lost");
  EXPECT_EQ(Json::parse(events[0])["error"]["message"], "rank 2 (stage 1, lane 0) was killed");
  EXPECT_EQ(events[1], "[DONE]");
  ExpectRefused(whole.ReadAnswer(), 503, "unavailable_error", "rank_lost");
}

TEST_F(StreamTest, StopEndsStreamsWithAWellFormedError) {
  Script script;
  script.hold = true;
  StartServer(script);
  RawClient stream(server_->port());
  stream.Send(PostText("/v1/chat/completions",
                       R"({"model":"tiny","messages":[{"role":"user","content":"a"}],"stream":true})"));
  RawClient whole(server_->port());
  whole.Send(PostText("/v1/completions", R"({"model":"tiny","prompt":"a"})"));
  RawClient idle(server_->port());
  ASSERT_TRUE(Eventually([this] { return engine_->running() == 2; }));
  const auto begin = std::chrono::steady_clock::now();
  server_->Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  const RawAnswer answer = stream.ReadAnswer();
  EXPECT_TRUE(answer.complete);
  const auto events = EventsOf(answer.body);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(Json::parse(events[0])["error"]["code"], "draining");
  EXPECT_EQ(events[1], "[DONE]");
  ExpectRefused(whole.ReadAnswer(), 503, "unavailable_error", "draining");
  EXPECT_FALSE(idle.Read());
  EXPECT_EQ(engine_->aborts(), 2);
}

TEST_F(StreamTest, AClientThatDoesNotReadIsCutOff) {
  options_.max_unread_bytes = 100'000;
  Script script;
  script.tokens = std::vector<int32_t>(900, 8);
  script.hold = true;
  engine::EngineInfo info = TestEngineInfo();
  StartServer(script, info);
  RawClient client(server_->port());
  Json prompts = Json::array();
  for (int i = 0; i < 200; ++i) prompts.push_back("a");
  // About 200 x 900 chunks of 250 bytes, far beyond what the sockets' buffers take.
  client.Send(PostText(
      "/v1/completions",
      Json{{"model", "tiny"}, {"prompt", prompts}, {"stream", true}, {"max_tokens", 950}, {"logprobs", 5}}
          .dump()));
  EXPECT_TRUE(Eventually([this] { return engine_->aborts() == 200; }));
}

}  // namespace
}  // namespace sluice::serve
