#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::serve {

// Finds stop strings in text that arrives in pieces, across their borders. Text is held back while it may
// still be the beginning of a stop string; a stop string itself is let through only with `include`.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops, bool include = false)
      : stops_(std::move(stops)), include_(include) {}

  // The text that is certain after `piece`. After a match: the text before the stop string, with `include` to
  // its end, and all later calls return nothing.
  std::string Push(std::string_view piece);
  // The end of the text: what was held back.
  std::string Finish();

  // The stop string that was met: the one that ends first, the longest among those, however the text was cut
  // into pieces.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  bool include_;
  std::string held_;
  std::optional<std::string> matched_;
};

}  // namespace sluice::serve
