#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/call_parser.h"
#include "text/reasoning_parser.h"

namespace sluice::text {

// How a model writes its calls.
enum class CallMarkup {
  kDeepSeekV32,  // "deepseekv32": ToolCallParser
  kGlm47,        // "glm47": Glm47Parser
};

// How to read an answer.
struct AnswerFormat {
  bool begins_in_reasoning = false;       // with ReasoningParser
  bool tool_calls = false;                // of the form `markup`
  std::vector<std::string> tool_names{};  // of the tools offered; empty: any
  bool one_call = false;                  // the caller ends the answer with its first call
  // What the prompt already has of the answer: the beginning of a call that the model is made to write.
  std::string written{};
  CallMarkup markup = CallMarkup::kDeepSeekV32;
  // kGlm47: the tools, each as JSON with `name` and `parameters`, for the types of arguments.
  std::vector<std::string> functions{};
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
// Where GLM's calls are read, one ends the reasoning that it stands in.
// The sum of all pieces depends on the whole text alone.
class AnswerParser {
 public:
  explicit AnswerParser(const AnswerFormat& format);

  AnswerPiece Push(std::string_view text);
  AnswerPiece Finish();

  // Whether what comes next is still reasoning.
  bool reasoning() const { return reasoning_.reasoning(); }
  // Whether a token with this text means something where the answer is now: a special one is then shown to
  // the parser too.
  bool IsMark(std::string_view token) const;
  // What is wrong with the answer's markup, a clause; empty: nothing.
  std::string fault() const;

 private:
  AnswerPiece Content(ReasoningParser::Piece split, bool last);

  ReasoningParser reasoning_;
  CallMarkup markup_;
  bool told_ = false;                  // calls_, that one of them ended the reasoning
  std::unique_ptr<CallParser> calls_;  // null: calls are not read
};

}  // namespace sluice::text
