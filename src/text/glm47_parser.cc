#include "text/glm47_parser.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/deepseek_v32_texts.h"
#include "text/glm_texts.h"
#include "text/python_json.h"
#include "text/white_space.h"

namespace sluice::text {
namespace {

constexpr std::string_view kWrittenBreak = "\\n";

// Where the white space at the end of `text` begins.
std::size_t SpaceAtEnd(std::string_view text) { return text.find_last_not_of(kWhiteSpace) + 1; }

}  // namespace

CallParser::Piece Glm47Parser::Push(std::string_view text) {
  held_ += text;
  while (Step()) {
  }
  return std::exchange(out_, {});
}

CallParser::Piece Glm47Parser::Finish() {
  if (state_ == State::kText) {
    if (MayEndMarkup(held_.size())) Drop(held_.size());
  } else if (state_ != State::kPlain) {
    Break("the answer ends inside a tool call");
  }
  LetOut(held_.size());
  return std::exchange(out_, {});
}

bool Glm47Parser::Step() {
  switch (state_) {
    case State::kText:
      return StepText();
    case State::kName:
      return StepName();
    case State::kArguments:
      return StepArguments();
    case State::kKey:
      return StepKey();
    case State::kBetween:
      return StepBetween();
    case State::kValue:
      return StepValue();
    case State::kPlain:
      LetOut(held_.size());
      return false;
  }
  return false;
}

bool Glm47Parser::StepText() {
  const std::string_view held = held_;
  std::size_t certain = held.size();
  for (std::size_t at = held.find('<'); at != std::string_view::npos; at = held.find('<', at + 1)) {
    const std::string_view rest = held.substr(at);
    if (rest.starts_with(kGlmCallOpen)) {
      const std::size_t begin = SpaceAtEnd(held.substr(0, at));
      LetOut(begin);
      at_ = at - begin + kGlmCallOpen.size();
      state_ = State::kName;
      return true;
    }
    if (in_reasoning_ && rest.starts_with(kThinkClose)) {
      // White space before the mark may belong to the markup of calls as that behind it does.
      if (!MayEndMarkup(at)) LetOut(at);
      held_.erase(held_.size() - rest.size(), kThinkClose.size());
      in_reasoning_ = false;
      return true;
    }
    if (kGlmCallOpen.starts_with(rest) || (in_reasoning_ && kThinkClose.starts_with(rest))) {
      certain = at;
      break;
    }
  }
  LetOut(SpaceAtEnd(held.substr(0, certain)));
  return false;
}

bool Glm47Parser::StepName() {
  const std::size_t end = std::min(held_.find('<', at_), held_.size());
  const std::string_view name = Trimmed(std::string_view(held_).substr(at_, end - at_));
  const bool begins_one = names_.empty() || std::ranges::any_of(names_, [&](const std::string& offered) {
                            return offered.starts_with(name);
                          });
  if (!begins_one) return Break("a tool that was not offered is called");
  if (name.size() > kMaxNameBytes) return Break("the name of a call is too long");
  if (end == held_.size()) return false;
  const std::string_view rest = std::string_view(held_).substr(end);
  if (!rest.starts_with(kGlmKeyOpen) && !rest.starts_with(kGlmCallClose)) {
    if (kGlmKeyOpen.starts_with(rest) || kGlmCallClose.starts_with(rest)) return false;
    return Break("a call has something else than arguments");
  }
  if (name.empty()) return Break("a call has no name");
  if (!names_.empty() && std::ranges::find(names_, name) == names_.end()) {
    return Break("a tool that was not offered is called");
  }
  name_ = name;
  keys_.clear();
  arguments_.assign(1, '{');
  at_ = end;
  state_ = State::kArguments;
  return true;
}

bool Glm47Parser::StepArguments() {
  SkipSpace(false);
  const Match key = Take(kGlmKeyOpen);
  if (key == Match::kYes) {
    searched_ = at_;
    state_ = State::kKey;
    return true;
  }
  const Match close = Take(kGlmCallClose);
  if (close == Match::kYes) {
    out_.calls.push_back({name_, arguments_ + "}"});
    any_call_ = after_call_ = true;
    Drop(at_);
    state_ = State::kText;
    return true;
  }
  if (key == Match::kMore || close == Match::kMore) return false;
  return Break("a call has something else than arguments");
}

bool Glm47Parser::StepKey() {
  std::string text;
  if (!TakeUntil(kGlmKeyClose, text)) return false;
  key_ = Trimmed(text);
  if (key_.empty()) return Break("the key of an argument is empty");
  if (std::ranges::find(keys_, key_) != keys_.end()) {
    return Break(fmt::format("the argument \"{}\" is there twice", key_));
  }
  state_ = State::kBetween;
  return true;
}

bool Glm47Parser::StepBetween() {
  SkipSpace(true);
  const Match match = Take(kGlmValueOpen);
  if (match == Match::kYes) {
    searched_ = at_;
    state_ = State::kValue;
    return true;
  }
  // Half of a line break that is written out.
  if (match == Match::kMore || std::string_view(held_).substr(at_) == kWrittenBreak.substr(0, 1)) {
    return false;
  }
  return Break("an argument has no value");
}

bool Glm47Parser::StepValue() {
  std::string text;
  if (!TakeUntil(kGlmValueClose, text)) return false;
  if (!keys_.empty()) arguments_ += ", ";
  arguments_.append(PythonJsonString(key_)).append(": ").append(ArgumentJson(types_.Of(name_, key_), text));
  keys_.push_back(key_);
  state_ = State::kArguments;
  return true;
}

Glm47Parser::Match Glm47Parser::Take(std::string_view mark) {
  const std::string_view rest = std::string_view(held_).substr(at_);
  if (rest.starts_with(mark)) {
    at_ += mark.size();
    return Match::kYes;
  }
  return mark.starts_with(rest) ? Match::kMore : Match::kNo;
}

bool Glm47Parser::TakeUntil(std::string_view mark, std::string& text) {
  const std::size_t found = held_.find(mark, searched_);
  if (found == std::string::npos) {
    if (held_.size() >= mark.size()) searched_ = std::max(searched_, held_.size() - mark.size() + 1);
    return false;
  }
  text = held_.substr(at_, found - at_);
  at_ = found + mark.size();
  return true;
}

void Glm47Parser::SkipSpace(bool written_out) {
  const std::string_view held = held_;
  while (at_ < held.size()) {
    if (kWhiteSpace.find(held[at_]) != std::string_view::npos) {
      ++at_;
    } else if (written_out && held.substr(at_).starts_with(kWrittenBreak)) {
      at_ += kWrittenBreak.size();
    } else {
      return;
    }
  }
}

bool Glm47Parser::Break(std::string fault) {
  if (fault_.empty()) fault_ = std::move(fault);
  state_ = State::kPlain;
  return true;
}

bool Glm47Parser::MayEndMarkup(std::size_t count) const {
  return after_call_ && SpaceAtEnd(std::string_view(held_).substr(0, count)) == 0;
}

void Glm47Parser::LetOut(std::size_t count) {
  if (count == 0) return;
  after_call_ = false;
  if (any_call_ && fault_.empty()) fault_ = "there is text after the tool calls";
  out_.content.append(held_, 0, count);
  Drop(count);
}

void Glm47Parser::Drop(std::size_t count) {
  held_.erase(0, count);
  at_ -= std::min(at_, count);
  searched_ -= std::min(searched_, count);
}

}  // namespace sluice::text
