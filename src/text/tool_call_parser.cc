#include "text/tool_call_parser.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "text/deepseek_v32_texts.h"
#include "text/python_json.h"
#include "text/white_space.h"

namespace sluice::text {
namespace {

constexpr std::string_view kBreakBefore = "\n\n";  // part of the markup that opens a block
// As kCallsOpen and kCallsClose, with the name that the next model generation uses.
constexpr std::string_view kToolCallsOpen = "<｜DSML｜tool_calls>";
constexpr std::string_view kToolCallsClose = "</｜DSML｜tool_calls>";
constexpr std::array kOpenings{kCallsOpen, kToolCallsOpen, kInvokeOpen};
constexpr std::size_t kLongestOpening = kBreakBefore.size() + kCallsOpen.size();

bool IsSpace(char c) { return kWhiteSpace.find(c) != std::string_view::npos; }
bool AllSpace(std::string_view text) { return text.find_first_not_of(kWhiteSpace) == std::string_view::npos; }

// Whether `text` is the beginning of an opening and no more than that.
bool MayOpen(std::string_view text) {
  if (kBreakBefore.starts_with(text)) return true;
  if (text.starts_with(kBreakBefore)) text.remove_prefix(kBreakBefore.size());
  return std::ranges::any_of(kOpenings, [&](std::string_view opening) { return opening.starts_with(text); });
}

}  // namespace

ToolCallParser::Piece ToolCallParser::Push(std::string_view text) {
  held_ += text;
  while (Step()) {
  }
  return std::exchange(out_, {});
}

ToolCallParser::Piece ToolCallParser::Finish() {
  if (state_ == State::kText) {
    // White space after the calls is the end of their markup.
    if (MayEndMarkup(held_.size())) Drop(held_.size());
    LetOut(held_.size());
  } else if (state_ != State::kPlain) {
    Break("the answer ends inside a tool call");
    LetOut(held_.size());
  }
  return std::exchange(out_, {});
}

bool ToolCallParser::Step() {
  switch (state_) {
    case State::kText:
      return StepText();
    case State::kInvokes:
      return StepInvokes();
    case State::kParameters:
      return StepParameters();
    case State::kValue:
      return StepValue();
    case State::kJson:
      return StepJson();
    case State::kPlain:
      LetOut(held_.size());
      return false;
  }
  return false;
}

bool ToolCallParser::StepText() {
  for (std::size_t at = held_.find(kInvokeOpen.front()); at != std::string::npos;
       at = held_.find(kInvokeOpen.front(), at + 1)) {
    const std::string_view rest = std::string_view(held_).substr(at);
    const auto opening =
        std::ranges::find_if(kOpenings, [&](std::string_view mark) { return rest.starts_with(mark); });
    if (opening == kOpenings.end()) continue;
    std::size_t begin = at;
    if (std::string_view(held_).substr(0, at).ends_with(kBreakBefore)) begin -= kBreakBefore.size();
    if (MayEndMarkup(at)) {
      Drop(begin);
    } else {
      LetOut(begin);
    }
    at_ = at - begin;
    in_block_ = *opening != kInvokeOpen;
    if (in_block_) {
      at_ += opening->size();
      block_close_ = *opening == kCallsOpen ? kCallsClose : kToolCallsClose;
    }
    calls_in_block_ = 0;
    state_ = State::kInvokes;
    return true;
  }
  std::size_t certain = held_.size() - std::min(held_.size(), kLongestOpening - 1);
  while (certain < held_.size() && !MayOpen(std::string_view(held_).substr(certain))) ++certain;
  // White space after calls may be the end of the markup or go with text that follows.
  if (!MayEndMarkup(certain)) LetOut(certain);
  return false;
}

bool ToolCallParser::StepInvokes() {
  SkipSpace();
  const std::size_t begin = at_;
  const Match invoke = Take(kInvokeOpen);
  if (invoke == Match::kYes) {
    Tag tag;
    const Match match = TakeTag(tag);
    if (match == Match::kMore) {
      at_ = begin;
      return false;
    }
    if (match == Match::kNo || !tag.has_name || !tag.string.empty())
      return Break("an invoke tag is malformed");
    if (!names_.empty() && std::ranges::find(names_, tag.name) == names_.end()) {
      return Break(fmt::format("the tool \"{}\" was not offered", tag.name));
    }
    OpenInvoke(tag);
    return true;
  }
  const Match close = Take(block_close_);
  if (close == Match::kYes) {
    if (calls_in_block_ == 0) return Break("a block of calls is empty");
    Drop(at_);
    after_call_ = true;
    state_ = State::kText;
    return true;
  }
  if (invoke == Match::kMore || close == Match::kMore) return false;
  return Break("a block of calls has something else than calls");
}

bool ToolCallParser::StepParameters() {
  SkipSpace();
  const std::size_t begin = at_;
  const Match parameter = Take(kParameterOpen);
  if (parameter == Match::kYes) {
    parameter_ = {};
    const Match match = TakeTag(parameter_);
    if (match == Match::kMore) {
      at_ = begin;
      return false;
    }
    const bool kind =
        parameter_.string.empty() || parameter_.string == "true" || parameter_.string == "false";
    if (match == Match::kNo || !parameter_.has_name || parameter_.closes_itself || !kind) {
      return Break("a parameter tag is malformed");
    }
    if (std::ranges::find(keys_, parameter_.name) != keys_.end()) {
      return Break(fmt::format("the parameter \"{}\" is there twice", parameter_.name));
    }
    searched_ = at_;
    state_ = State::kValue;
    return true;
  }
  const Match close = Take(kInvokeClose);
  if (close == Match::kYes) {
    EndInvoke(arguments_ + "}");
    return true;
  }
  if (parameter == Match::kMore || close == Match::kMore) return false;
  if (keys_.empty() && held_[at_] == '{') {
    searched_ = at_;
    state_ = State::kJson;
    return true;
  }
  return Break("a call has something else than parameters");
}

bool ToolCallParser::StepValue() {
  const std::size_t end = Find(kParameterClose);
  if (end == std::string::npos) return false;
  const std::string_view value = std::string_view(held_).substr(at_, end - at_);
  const std::string_view json = Trimmed(value);
  const bool is_json = parameter_.string != "true" && IsJson(json);
  AddArgument(is_json ? std::string(json) : PythonJsonString(value));
  at_ = end + kParameterClose.size();
  state_ = State::kParameters;
  return true;
}

bool ToolCallParser::StepJson() {
  const std::size_t end = Find(kInvokeClose);
  if (end == std::string::npos) return false;
  std::string json(Trimmed(std::string_view(held_).substr(at_, end - at_)));
  if (!IsJsonObject(json)) return Break("the arguments of a call are no JSON object");
  at_ = end + kInvokeClose.size();
  EndInvoke(std::move(json));
  return true;
}

ToolCallParser::Match ToolCallParser::Take(std::string_view mark) {
  const std::string_view rest = std::string_view(held_).substr(at_);
  if (rest.starts_with(mark)) {
    at_ += mark.size();
    return Match::kYes;
  }
  return mark.starts_with(rest) ? Match::kMore : Match::kNo;
}

// `name="..." string="...">`, each attribute once, in any order.
ToolCallParser::Match ToolCallParser::TakeTag(Tag& tag) {
  while (true) {
    if (at_ == held_.size()) return Match::kMore;
    const std::size_t before = at_;
    SkipSpace();
    if (at_ == held_.size()) return Match::kMore;
    if (Take(">") == Match::kYes) return Match::kYes;
    if (held_[at_] == '/') {
      tag.closes_itself = true;
      const Match end = Take("/>");
      return end;
    }
    if (at_ == before) return Match::kNo;  // an attribute needs white space before it
    const Match name = Take("name=\"");
    const Match string = name == Match::kYes ? Match::kNo : Take("string=\"");
    if (name != Match::kYes && string != Match::kYes) {
      return name == Match::kMore || string == Match::kMore ? Match::kMore : Match::kNo;
    }
    const std::size_t end = held_.find('"', at_);
    if (end == std::string::npos) return Match::kMore;
    std::string value = held_.substr(at_, end - at_);
    at_ = end + 1;
    if (value.empty() || (name == Match::kYes ? tag.has_name : !tag.string.empty())) return Match::kNo;
    if (name == Match::kYes) {
      tag.name = std::move(value);
      tag.has_name = true;
    } else {
      tag.string = std::move(value);
    }
  }
}

std::size_t ToolCallParser::Find(std::string_view mark) {
  const std::size_t found = held_.find(mark, searched_);
  if (found == std::string::npos && held_.size() >= mark.size()) {
    searched_ = std::max(searched_, held_.size() - mark.size() + 1);
  }
  return found;
}

void ToolCallParser::SkipSpace() {
  while (at_ < held_.size() && IsSpace(held_[at_])) ++at_;
}

void ToolCallParser::OpenInvoke(const Tag& tag) {
  invoke_ = tag.name;
  keys_.clear();
  arguments_.assign(1, '{');
  if (tag.closes_itself) {
    EndInvoke("{}");
  } else {
    state_ = State::kParameters;
  }
}

void ToolCallParser::AddArgument(std::string json) {
  if (!keys_.empty()) arguments_ += ", ";
  arguments_.append(PythonJsonString(parameter_.name)).append(": ").append(json);
  keys_.push_back(parameter_.name);
}

void ToolCallParser::EndInvoke(std::string arguments) {
  out_.calls.push_back({invoke_, std::move(arguments)});
  any_call_ = after_call_ = true;
  ++calls_in_block_;
  Drop(at_);
  state_ = in_block_ ? State::kInvokes : State::kText;
}

bool ToolCallParser::Break(std::string fault) {
  if (fault_.empty()) fault_ = std::move(fault);
  state_ = State::kPlain;
  return true;
}

bool ToolCallParser::MayEndMarkup(std::size_t count) const {
  return after_call_ && AllSpace(std::string_view(held_).substr(0, count));
}

void ToolCallParser::LetOut(std::size_t count) {
  if (count == 0) return;
  after_call_ = false;
  if (any_call_ && fault_.empty()) fault_ = "there is text after the tool calls";
  out_.content.append(held_, 0, count);
  Drop(count);
}

void ToolCallParser::Drop(std::size_t count) {
  held_.erase(0, count);
  at_ -= std::min(at_, count);
  searched_ -= std::min(searched_, count);
}

}  // namespace sluice::text
