#include "serve/request_log.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "serve/json.h"

namespace sluice::serve {
namespace {

constexpr int kParameters = 1;
constexpr int kSomeText = 2;
constexpr int kAllText = 3;
constexpr std::size_t kSomeBytes = 2048;

// Quoted as JSON, so that no line end, quote or control character of a client ends up in the log.
std::string Escaped(std::string_view text) { return ToText(Json(std::string(text))); }

// At most `bytes`, not cut inside a character; "..." says that it was cut.
std::string Begin(std::string_view text, std::size_t bytes) {
  if (text.size() <= bytes) return std::string(text);
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0U) == 0x80U) --bytes;
  return std::string(text.substr(0, bytes)) + "...";
}

std::string Parameters(const engine::Request& request) {
  std::string text = fmt::format(", temperature {}, top_p {}, top_k {}, seed {}", request.temperature,
                                 request.top_p, request.top_k, request.seed);
  const auto add = [&text](const char* name, auto value, auto usual) {
    if (value != usual) text += fmt::format(", {} {}", name, value);
  };
  add("min_p", request.min_p, 0.0F);
  add("frequency_penalty", request.frequency_penalty, 0.0F);
  add("presence_penalty", request.presence_penalty, 0.0F);
  add("repetition_penalty", request.repetition_penalty, 1.0F);
  add("min_tokens", request.min_tokens, 0);
  add("priority", request.priority, 0);
  add("logit_bias", request.logit_bias.size(), 0U);
  add("stop_token_ids", request.stop_token_ids.size(), 0U);
  if (request.grammar != nullptr) text += ", grammar";
  return text;
}

}  // namespace

void RequestLog::Received(const std::string& name, const engine::Request& request) const {
  if (level_ != kOff) spdlog::info("{}", ReceivedLine(name, request));
}

void RequestLog::Append(std::string_view text, std::string& answer) const {
  if (level_ < kSomeText || text.empty()) return;
  if (level_ >= kAllText) {
    answer += text;
  } else if (answer.size() <= kSomeBytes) {  // longer: it was cut
    answer += Begin(text, kSomeBytes - answer.size());
  }
}

void RequestLog::Ended(const std::string& name, const std::string& reason, int64_t answer_tokens,
                       const std::string& answer) const {
  if (level_ != kOff) spdlog::info("{}", EndedLine(name, reason, answer_tokens, answer));
}

std::string RequestLog::ReceivedLine(const std::string& name, const engine::Request& request) const {
  std::string line = fmt::format("request {}: {} prompt tokens, max_tokens {}", name, request.prompt.size(),
                                 request.max_tokens);
  if (level_ >= kParameters) line += Parameters(request);
  if (level_ >= kSomeText) {
    SLUICE_CHECK(tokenizer_ != nullptr, "a log of texts has a tokenizer");
    const std::string prompt = tokenizer_->Decode(request.prompt);
    line += ", prompt " + Escaped(level_ >= kAllText ? prompt : Begin(prompt, kSomeBytes));
  }
  return line;
}

std::string RequestLog::EndedLine(const std::string& name, const std::string& reason, int64_t answer_tokens,
                                  const std::string& answer) const {
  std::string line = fmt::format("request {} ended: {}, {} answer tokens", name, reason, answer_tokens);
  if (level_ >= kSomeText) line += ", answer " + Escaped(answer);
  return line;
}

}  // namespace sluice::serve
