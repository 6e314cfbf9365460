#include "text/reasoning_parser.h"

#include <algorithm>
#include <utility>

#include "text/deepseek_v32_texts.h"

namespace sluice::text {

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
    if (end != std::string::npos) {
      out.reasoning = held_.substr(0, end);
      held_.erase(0, end + kThinkClose.size());
      state_ = State::kContent;
    } else {
      std::size_t kept = std::min(held_.size(), kThinkClose.size() - 1);
      while (!kThinkClose.starts_with(std::string_view(held_).substr(held_.size() - kept))) --kept;
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
