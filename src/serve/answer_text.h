#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "serve/stop_matcher.h"
#include "text/detokenizer.h"

namespace sluice::serve {

// Turns the tokens of one answer into the text shown to the client: whole characters only, nothing that may
// still become a stop string, and the reasoning before </think> apart from the content after it.
class AnswerText {
 public:
  struct Piece {
    std::string reasoning;
    std::string content;
  };

  // With `end_of_thinking` the answer begins as reasoning and that token, which is not shown, ends it. With
  // `include_stop` the stop string that ends the answer is part of it.
  AnswerText(const text::Tokenizer& tokenizer, bool skip_special, std::vector<std::string> stops,
             std::optional<int32_t> end_of_thinking, bool include_stop = false)
      : detokenizer_(tokenizer, skip_special),
        stops_(std::move(stops), include_stop),
        end_of_thinking_(end_of_thinking) {}

  // Must not be called after stop() is set.
  Piece Push(int32_t token);
  // The end of the answer: what was held back.
  Piece Finish();

  // The stop string that ended the answer.
  const std::optional<std::string>& stop() const { return stops_.matched(); }
  bool reasoning() const { return end_of_thinking_.has_value(); }

 private:
  Piece Shown(std::string text) const;

  text::IncrementalDetokenizer detokenizer_;
  StopMatcher stops_;
  std::optional<int32_t> end_of_thinking_;  // while the answer is reasoning
};

}  // namespace sluice::serve
