#pragma once

#include <cstdint>
#include <string>

#include "serve/json.h"
#include "text/tokenizer.h"

namespace sluice::serve {

// How a token is written in log-probabilities: its text, or "bytes:\xe4\xbd" when it is not whole characters,
// so that different tokens keep different names.
std::string TokenText(const text::Tokenizer& tokenizer, int32_t token);

// The token's bytes as a list of numbers.
Json TokenByteList(const text::Tokenizer& tokenizer, int32_t token);

// Places of tokens in a text, in code points as Python counts them. A token that begins inside a character is
// placed at that character.
class TextOffset {
 public:
  // The offset of a token with these bytes, which follows the tokens before it.
  int64_t Next(std::string_view bytes);

 private:
  int64_t begun_ = 0;  // characters whose first byte has been seen
};

}  // namespace sluice::serve
