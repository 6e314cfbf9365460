#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/request.h"
#include "text/tokenizer.h"

namespace sluice::serve {

// --log-requests: a line when a request comes and one when it ends, at level info. What clients wrote, and
// what the model answered, is never in them below level 2, and always quoted and escaped.
class RequestLog {
 public:
  static constexpr int kOff = -1;

  // level: 0 sizes, 1 also sampling parameters, 2 also the first 2,048 bytes of prompt and answer, 3 all of
  // them. `tokenizer` turns prompts back into text and outlives the log; with level 2 and 3 it must be there.
  RequestLog() = default;
  RequestLog(int level, const text::Tokenizer* tokenizer) : level_(level), tokenizer_(tokenizer) {}

  void Received(const std::string& name, const engine::Request& request) const;
  // Keeps of `text` what Ended will write.
  void Append(std::string_view text, std::string& answer) const;
  void Ended(const std::string& name, const std::string& reason, int64_t answer_tokens,
             const std::string& answer) const;

  // What the lines say.
  std::string ReceivedLine(const std::string& name, const engine::Request& request) const;
  std::string EndedLine(const std::string& name, const std::string& reason, int64_t answer_tokens,
                        const std::string& answer) const;

 private:
  int level_ = kOff;
  const text::Tokenizer* tokenizer_ = nullptr;
};

}  // namespace sluice::serve
