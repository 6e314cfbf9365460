#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/reasoning_parser.h"
#include "text/tool_call_parser.h"

namespace sluice::text {

// How to read an answer.
struct AnswerFormat {
  bool begins_in_reasoning = false;       // with ReasoningParser
  bool tool_calls = false;                // with ToolCallParser
  std::vector<std::string> tool_names{};  // of the tools offered; empty: any
  bool one_call = false;                  // the caller ends the answer with its first call
  // What the prompt already has of the answer: the beginning of a call that the model is made to write.
  std::string written{};
};

// Some of an answer, or all of it.
struct AnswerPiece {
  std::string reasoning{};
  std::string content{};
  std::vector<ToolCall> calls{};

  void Append(AnswerPiece&& more);
  bool empty() const { return reasoning.empty() && content.empty() && calls.empty(); }
  bool operator==(const AnswerPiece&) const = default;
};

// Takes the text of one answer apart, in pieces as it comes: reasoning, content after it, tool calls in that.
// The sum of all pieces depends on the whole text alone.
class AnswerParser {
 public:
  explicit AnswerParser(const AnswerFormat& format);

  AnswerPiece Push(std::string_view text);
  AnswerPiece Finish();

  // Whether what comes next is still reasoning.
  bool reasoning() const { return reasoning_.reasoning(); }
  bool reads_calls() const { return calls_.has_value(); }
  // What is wrong with the answer's markup, a clause; empty: nothing.
  std::string fault() const;

 private:
  AnswerPiece Content(ReasoningParser::Piece split, bool last);

  ReasoningParser reasoning_;
  std::optional<ToolCallParser> calls_;
};

}  // namespace sluice::text
