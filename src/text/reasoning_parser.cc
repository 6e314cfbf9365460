#include "text/reasoning_parser.h"

#include <algorithm>
#include <utility>

#include "text/deepseek_v32_texts.h"

namespace sluice::text {
namespace {

// How many bytes at the end of `text` are the beginning of `mark`, which does not come whole.
std::size_t BegunAtEnd(std::string_view text, std::string_view mark) {
  if (mark.empty()) return 0;
  std::size_t kept = std::min(text.size(), mark.size() - 1);
  while (!mark.starts_with(text.substr(text.size() - kept))) --kept;
  return kept;
}

}  // namespace

ReasoningParser::Piece ReasoningParser::Push(std::string_view text) {
  Piece out;
  held_ += text;
  if (state_ == State::kStart) {
    if (held_.size() < kThinkOpen.size() && kThinkOpen.starts_with(held_)) return out;
    if (held_.starts_with(kThinkOpen)) held_.erase(0, kThinkOpen.size());
    state_ = State::kReasoning;
  }
  if (state_ == State::kReasoning) {
    const std::size_t end = held_.find(kThinkClose);
    const std::size_t call = call_.empty() ? std::string::npos : held_.find(call_);
    if (call < end) {
      out.reasoning = held_.substr(0, call);
      held_.erase(0, call);
      state_ = State::kContent;
      ended_by_call_ = true;
    } else if (end != std::string::npos) {
      out.reasoning = held_.substr(0, end);
      held_.erase(0, end + kThinkClose.size());
      state_ = State::kContent;
    } else {
      const std::size_t kept = std::max(BegunAtEnd(held_, kThinkClose), BegunAtEnd(held_, call_));
      out.reasoning = held_.substr(0, held_.size() - kept);
      held_.erase(0, held_.size() - kept);
    }
  }
  if (state_ == State::kContent) out.content = std::exchange(held_, {});
  return out;
}

ReasoningParser::Piece ReasoningParser::Finish() {
  Piece out;
  (reasoning() ? out.reasoning : out.content) = std::exchange(held_, {});
  return out;
}

}  // namespace sluice::text
