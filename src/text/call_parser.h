#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/chat_message.h"

namespace sluice::text {

// Reads one model family's tool calls out of an answer that arrives in pieces. What all pieces give together
// depends on the whole text alone, not on where it was cut. Text is held back while it may be the beginning
// of a call; a call is let out when it is complete.
//
// Markup that breaks off or breaks the family's rules is content: all that was held back of it and everything
// after it, as it was written. Calls complete before that stay.
class CallParser {
 public:
  struct Piece {
    std::string content{};
    std::vector<ToolCall> calls{};  // complete ones; arguments are always a JSON object
  };

  virtual ~CallParser() = default;

  virtual Piece Push(std::string_view text) = 0;
  // The end of the answer.
  virtual Piece Finish() = 0;
  // The first rule that was broken, a clause; empty: none so far. Text after the calls breaks one as well.
  virtual const std::string& fault() const = 0;
};

}  // namespace sluice::text
