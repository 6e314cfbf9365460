#include "serve/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace sluice::serve {

std::string StopMatcher::Push(std::string_view piece) {
  if (matched_) return {};
  if (stops_.empty()) return std::string(piece);
  held_ += piece;

  std::size_t first = 0;
  const std::string* found = nullptr;
  for (const std::string& stop : stops_) {
    const std::size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const std::size_t end = at + stop.size();
    const std::size_t best = found == nullptr ? std::string::npos : first + found->size();
    if (end < best || (end == best && at < first)) {
      first = at;
      found = &stop;
    }
  }
  if (found != nullptr) {
    matched_ = *found;
    std::string before = held_.substr(0, first + (include_ ? found->size() : 0));
    held_.clear();
    return before;
  }
  // The earliest place where a stop string may have begun without having ended: text from there is not
  // certain.
  std::size_t open = held_.size();
  for (const std::string& stop : stops_) {
    const std::size_t longest = std::min(stop.size() - 1, held_.size());
    for (std::size_t length = longest; length > held_.size() - open; --length) {
      if (std::string_view(held_).substr(held_.size() - length) == std::string_view(stop).substr(0, length)) {
        open = held_.size() - length;
        break;
      }
    }
  }
  std::string certain = held_.substr(0, open);
  held_.erase(0, open);
  return certain;
}

std::string StopMatcher::Finish() { return std::exchange(held_, {}); }

}  // namespace sluice::serve
