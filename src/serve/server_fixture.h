#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "serve/fake_engine.h"
#include "serve/raw_client.h"
#include "serve/server.h"
#include "text/byte_tokenizer.h"
#include "text/tokenizer.h"

namespace sluice::serve {

inline constexpr int32_t kTestVocabulary = 300;

// The tokenizer of a made-up checkpoint: token 7 + b is byte b, 1 ends a sentence, 5 is </think>.
inline const text::Tokenizer& TestTokenizer() {
  static const std::unique_ptr<text::Tokenizer> tokenizer = [] {
    const auto path =
        std::filesystem::temp_directory_path() / ("serve_test_" + std::to_string(::getpid()) + ".json");
    std::ofstream(path) << text::ByteTokenizerJson(kTestVocabulary);
    auto loaded = text::Tokenizer::Load(path);
    std::filesystem::remove(path);
    return loaded;
  }();
  return *tokenizer;
}

inline std::vector<int32_t> ByteTokens(std::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(7 + static_cast<unsigned char>(c));
  return ids;
}

// An answer of this text, which ends by itself.
inline Script AnswerOf(const std::string& text) {
  Script script;
  script.tokens = ByteTokens(text);
  script.tokens.push_back(1);
  return script;
}

// The events of a stream but for its end.
inline std::vector<Json> Chunks(const std::vector<std::string>& events) {
  std::vector<Json> chunks;
  for (const std::string& event : events) {
    if (event != "[DONE]") chunks.push_back(Json::parse(event));
  }
  return chunks;
}

// Of a stream's body.
inline std::vector<Json> Chunks(const std::string& body) { return Chunks(EventsOf(body)); }

inline constexpr const char* kInvalid = "invalid_request_error";

inline engine::EngineInfo TestEngineInfo() {
  engine::EngineInfo info;
  info.vocab_size = kTestVocabulary;
  info.context_length = 1000;
  info.max_total_tokens = 2000;
  info.eos_token_ids = {1};
  info.numerics = "exact";
  return info;
}

inline ServerInfo TestServerInfo() {
  ServerInfo info;
  info.served_model_name = "tiny";
  info.model_path = "/models/tiny";
  info.system_fingerprint = "sluice-test";
  info.version = "0.1.0";
  info.arguments = {{"pp_size", 2}, {"nsa_prefill_cp_mode", "round-robin-split"}};
  return info;
}

// A server over a fake engine; `script` is what every request gets.
class ServerTest : public ::testing::Test {
 protected:
  void StartServer(const Script& script, engine::EngineInfo info = TestEngineInfo()) {
    engine_ =
        std::make_unique<FakeEngine>(std::move(info), [script](const engine::Request&) { return script; });
    server_ = std::make_unique<Server>(options_, *engine_, TestTokenizer(), TestServerInfo(), watchers_);
    server_->Start();
  }
  void StartServer(const std::string& answer = "Hello") {
    Script script;
    script.tokens = ByteTokens(answer);
    script.tokens.push_back(1);
    StartServer(script);
  }

  RawAnswer Post(const std::string& path, const Json& body) { return PostRaw(path, body.dump()); }
  RawAnswer PostRaw(const std::string& path, const std::string& body, const std::string& headers = "",
                    const std::string& type = "application/json") {
    return SendOnce(server_->port(), PostText(path, body, headers, type));
  }
  RawAnswer Complete(const Json& fields) {
    Json body = {{"model", "tiny"}, {"prompt", "ab"}};
    body.update(fields);
    return Post("/v1/completions", body);
  }
  RawAnswer Chat(const Json& fields) {
    Json body = {{"model", "tiny"}, {"messages", Json::array({{{"role", "user"}, {"content", "ab"}}})}};
    body.update(fields);
    return Post("/v1/chat/completions", body);
  }
  RawAnswer Get(const std::string& path) {
    return SendOnce(server_->port(), "GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n");
  }

  // Waits up to 5 s.
  template <typename Condition>
  static bool Eventually(Condition condition) {
    for (int i = 0; i < 500; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  ServerOptions options_;
  Watchers watchers_;
  std::unique_ptr<FakeEngine> engine_;
  std::unique_ptr<Server> server_;
};

// An error answer as the table has it.
inline void ExpectRefused(const RawAnswer& answer, int status, const std::string& type,
                          const std::string& code, const Json& param = nullptr) {
  SCOPED_TRACE(answer.body);
  EXPECT_EQ(answer.status, status);
  EXPECT_EQ(answer.header("content-type"), "application/json");
  EXPECT_NE(answer.header("x-request-id"), "");
  const Json body = Json::parse(answer.body, nullptr, false);
  ASSERT_TRUE(body.is_object() && body.contains("error"));
  ASSERT_EQ(body["error"].size(), 4U);
  EXPECT_EQ(body["error"]["type"], type);
  EXPECT_EQ(body["error"]["code"], code);
  EXPECT_EQ(body["error"]["param"], param);
  EXPECT_GT(body["error"]["message"].get<std::string>().size(), 15U);
}

}  // namespace sluice::serve
