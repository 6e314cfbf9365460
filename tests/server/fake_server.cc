// The server over a scripted engine, for clients that are tested from outside. Prints its base URL, serves
// until standard input ends. What a prompt asks for:
//   HOLD   nothing, for ever          SLOW   a token every 50 ms
//   FLOOD  thousands of tokens        FULL   a full queue
//   BREAK  two tokens, then an error  CALL   a sentence and two calls of get_weather
//   THINK  reasoning, then 42         PAGE   a long prompt's progress, then Markdown with HTML in it
//   else   "Hello <a CJK character> world" and the end of the sentence
// A prompt that ends with the beginning of a call is answered with the rest of it.

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "base/log.h"
#include "serve/fake_engine.h"
#include "serve/server.h"
#include "text/byte_tokenizer.h"
#include "text/tokenizer.h"

namespace sluice::serve {
namespace {

constexpr int32_t kVocabulary = 512;
constexpr int32_t kEndOfSentence = 1;

constexpr const char* kCall =
    "get_weather\">\n<｜DSML｜parameter name=\"place\" string=\"true\">Oslo</｜DSML｜parameter>\n"
    "<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n";

// What the model writes.
std::string AnswerTo(const std::string& prompt) {
  const auto asks = [&prompt](const char* word) { return prompt.find(word) != std::string::npos; };
  const std::string invoke = "<｜DSML｜invoke name=\"";
  const std::string end = "</｜DSML｜function_calls>";
  if (prompt.ends_with(invoke)) return kCall + end;
  if (prompt.ends_with(invoke + "get_weather\">\n")) return std::string(kCall).substr(14) + end;
  if (asks("CALL")) {
    return "On it.\n\n<｜DSML｜function_calls>\n" + invoke + kCall + invoke + kCall + end;
  }
  if (asks("THINK")) return "six times seven</think>42";
  if (asks("PAGE")) {
    return "six times **seven**</think># Result\n\nIt is **42**, `not 41`.\n\n- <b>one</b>\n- "
           "<img src=x onerror=\"document.title='broken'\">\n";
  }
  return "Hello \xE4\xBD\xA0 world";
}

int Main() {
  InitLogging("warning");
  const auto path = std::filesystem::temp_directory_path() / fmt::format("fake_server_{}.json", ::getpid());
  std::ofstream(path) << text::ByteTokenizerJson(kVocabulary);
  const auto tokenizer = text::Tokenizer::Load(path);
  std::filesystem::remove(path);

  engine::EngineInfo info;
  info.vocab_size = kVocabulary;
  info.context_length = 4096;
  info.max_total_tokens = 8192;
  info.eos_token_ids = {kEndOfSentence};
  info.numerics = "exact";
  FakeEngine engine(info, [&tokenizer](const engine::Request& request) {
    const std::string prompt = tokenizer->Decode(request.prompt);
    const auto asks = [&prompt](const char* word) { return prompt.find(word) != std::string::npos; };
    Script script;
    if (asks("HOLD")) {
      script.hold = true;
      return script;
    }
    script.tokens = tokenizer->Encode(AnswerTo(prompt));
    script.tokens.push_back(kEndOfSentence);
    if (asks("FLOOD")) {
      script.tokens.assign(4000, script.tokens.front());
      script.tokens_per_event = 8;
    }
    if (asks("FULL")) throw engine::QueueFull("as many requests wait as may", 1.5);
    if (asks("PAGE")) {
      script.interval = std::chrono::milliseconds(20);
      script.prompt_tokens_a_step = 64;
    }
    if (asks("SLOW")) script.interval = std::chrono::milliseconds(50);
    if (asks("BREAK")) {
      script.tokens.resize(2);
      script.error = "rank 1 (stage 1, lane 0) met a NaN";
    }
    return script;
  });

  ServerOptions options;
  options.keep_alive = std::chrono::milliseconds(200);
  options.max_unread_bytes = 256U << 10U;
  options.max_unread_total_bytes = 4U << 20U;
  ServerInfo server_info;
  server_info.served_model_name = "tiny";
  server_info.model_path = "/models/tiny";
  server_info.system_fingerprint = "sluice-fake";
  server_info.version = "0.1.0";
  server_info.arguments = {{"pp_size", 1}};
  Server server(options, engine, *tokenizer, server_info);
  server.Start();
  fmt::print("http://127.0.0.1:{}\n", server.port());
  std::fflush(stdout);
  std::string line;
  while (std::getline(std::cin, line)) {
  }
  server.Stop();
  return 0;
}

}  // namespace
}  // namespace sluice::serve

int main() { return sluice::serve::Main(); }
