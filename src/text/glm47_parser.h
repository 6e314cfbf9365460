#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/argument_types.h"
#include "text/call_parser.h"

namespace sluice::text {

// Reads the tool calls of GLM-4.7 and GLM-5 ("glm47"):
//   <tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>...</tool_call>
// with any number of arguments, none as well, and any number of calls. White space may stand around the name
// and a key, and between the tags (there also written out as \n); what stands before a call goes with it, and
// so does what stands between calls and after the last one. A VALUE is a string as it is or JSON, by the
// types that the tool's schema has (ArgumentJson).
//
// Rules that end the markup: a name that is none of those offered or longer than kMaxNameBytes, an empty key
// or one that is there twice, anything else between the tags.
class Glm47Parser : public CallParser {
 public:
  static constexpr std::size_t kMaxNameBytes = 256;

  // `names` may be called; empty: any. `functions` are the tools, as JSON with `name` and `parameters`.
  Glm47Parser(std::vector<std::string> names, std::span<const std::string> functions)
      : names_(std::move(names)), types_(functions) {}

  Piece Push(std::string_view text) override;
  Piece Finish() override;
  const std::string& fault() const override { return fault_; }

  // The answer's reasoning was ended by a call and not by </think>: should that mark still come between or
  // after the calls, it is left out once.
  void ExpectEndOfReasoning() { in_reasoning_ = true; }

 private:
  enum class State { kText, kName, kArguments, kKey, kBetween, kValue, kPlain };
  enum class Match { kYes, kNo, kMore };

  // One step of the state; false when more text is needed.
  bool Step();
  bool StepText();
  bool StepName();
  bool StepArguments();
  bool StepKey();
  bool StepBetween();
  bool StepValue();

  // Whether the text at at_ is `mark`, cannot be it, or is too short to tell. Moves past it on kYes.
  Match Take(std::string_view mark);
  // The text before `mark` at or after at_, and moves past it; false when it has not come.
  bool TakeUntil(std::string_view mark, std::string& text);
  void SkipSpace(bool written_out);
  // The markup breaks a rule: from here on all is content.
  bool Break(std::string fault);
  // `count` bytes at the front of held_ are content.
  void LetOut(std::size_t count);
  void Drop(std::size_t count);
  bool MayEndMarkup(std::size_t count) const;

  std::vector<std::string> names_;
  FunctionTypes types_;
  State state_ = State::kText;
  std::string held_;          // what has not been let out
  std::size_t at_ = 0;        // in held_: where parsing goes on
  std::size_t searched_ = 0;  // in held_: TakeUntil's mark does not begin before it
  bool in_reasoning_ = false;
  bool any_call_ = false;
  bool after_call_ = false;  // and only white space since
  std::string name_;
  std::string key_;
  std::vector<std::string> keys_;
  std::string arguments_;  // the JSON so far, without the closing brace
  std::string fault_;
  Piece out_;
};

}  // namespace sluice::text
