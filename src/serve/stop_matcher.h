#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::serve {

// Finds stop strings in text that arrives in pieces, across their borders. Text is held back while it may
// still be the beginning of a stop string; a stop string itself is never let through.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // The text that is certain after `piece`. After a match: the text before the stop string, and all later
  // calls return nothing.
  std::string Push(std::string_view piece);
  // The end of the text: what was held back.
  std::string Finish();

  // The stop string that was met: the one that ends first, the longest among those, however the text was cut
  // into pieces.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::optional<std::string> matched_;
};

}  // namespace sluice::serve
