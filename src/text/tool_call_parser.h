#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/call_parser.h"

namespace sluice::text {

// Reads DeepSeek-V3.2's tool calls ("deepseekv32") out of an answer that arrives in pieces:
//   \n\n<｜DSML｜function_calls>
//   <｜DSML｜invoke name="NAME">
//   <｜DSML｜parameter name="KEY" string="true|false">VALUE</｜DSML｜parameter>
//   </｜DSML｜invoke>
//   </｜DSML｜function_calls>
// Also taken: tool_calls in place of function_calls, an invoke without the block around it, one that closes
// itself, one whose body is a JSON object, any white space between the tags and attributes, and a value that
// claims to be JSON and is not (it is a string).
class ToolCallParser : public CallParser {
 public:
  // A call of a tool that is not in `names` breaks the rules; empty: any name will do.
  explicit ToolCallParser(std::vector<std::string> names) : names_(std::move(names)) {}

  Piece Push(std::string_view text) override;
  Piece Finish() override;
  const std::string& fault() const override { return fault_; }

 private:
  enum class State { kText, kInvokes, kParameters, kValue, kJson, kPlain };
  enum class Match { kYes, kNo, kMore };
  struct Tag {
    std::string name{};
    std::string string{};  // the attribute of that name; empty: not there
    bool has_name = false;
    bool closes_itself = false;
  };

  // One step of the state; false when more text is needed.
  bool Step();
  bool StepText();
  bool StepInvokes();
  bool StepParameters();
  bool StepValue();
  bool StepJson();

  // Whether the text at at_ is `mark`, cannot be it, or is too short to tell. Moves past it on kYes.
  Match Take(std::string_view mark);
  Match TakeTag(Tag& tag);
  // The place of `mark` after at_, or npos; remembers what has been searched.
  std::size_t Find(std::string_view mark);
  void SkipSpace();
  void OpenInvoke(const Tag& tag);
  void AddArgument(std::string json);
  void EndInvoke(std::string arguments);
  // The markup breaks a rule: from here on all is content.
  bool Break(std::string fault);
  bool MayEndMarkup(std::size_t count) const;
  // `count` bytes at the front of held_ are content.
  void LetOut(std::size_t count);
  void Drop(std::size_t count);

  std::vector<std::string> names_;
  State state_ = State::kText;
  std::string held_;          // what has not been let out
  std::size_t at_ = 0;        // in held_: where parsing goes on
  std::size_t searched_ = 0;  // in held_: no end of the value begins before it
  bool in_block_ = false;
  // After a call, while all that followed is white space, which may be the end of the markup.
  bool after_call_ = false;
  bool any_call_ = false;
  std::string block_close_;
  int calls_in_block_ = 0;
  std::string invoke_;  // the name of the invoke being read
  Tag parameter_;
  std::vector<std::string> keys_;
  std::string arguments_;  // the JSON of the parameters so far, without the closing brace
  std::string fault_;
  Piece out_;
};

}  // namespace sluice::text
