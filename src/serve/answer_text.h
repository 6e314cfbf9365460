#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "serve/stop_matcher.h"
#include "text/answer_parser.h"
#include "text/detokenizer.h"

namespace sluice::serve {

// Turns the tokens of one answer into what is shown to the client: whole characters only, nothing that may
// still become a stop string, and taken apart into reasoning, content and tool calls.
class AnswerText {
 public:
  using Piece = text::AnswerPiece;

  // With `skip_special` special tokens have no text, except those that the format is read by. With
  // `include_stop` the stop string that ends the answer is part of it.
  AnswerText(const text::Tokenizer& tokenizer, bool skip_special, std::vector<std::string> stops,
             const text::AnswerFormat& format, bool include_stop = false)
      : tokenizer_(&tokenizer),
        detokenizer_(tokenizer, false),
        skip_special_(skip_special),
        stops_(std::move(stops), include_stop),
        parser_(format),
        one_call_(format.one_call) {}

  // Must not be called after ended().
  Piece Push(int32_t token);
  // The end of the answer: what was held back.
  Piece Finish();

  // The stop string that ended the answer.
  const std::optional<std::string>& stop() const { return stops_.matched(); }
  // Nothing that follows is shown: a stop string came, or the only call that was allowed.
  bool ended() const { return stop().has_value() || (one_call_ && called_); }
  // Whether the answer, as far as it has come, is still reasoning.
  bool reasoning() const { return parser_.reasoning(); }
  // What is wrong with the markup of calls, which then is content; empty: nothing.
  std::string fault() const { return parser_.fault(); }

 private:
  bool IsShown(int32_t token) const;
  Piece Taken(Piece piece);

  const text::Tokenizer* tokenizer_;
  text::IncrementalDetokenizer detokenizer_;
  bool skip_special_;
  StopMatcher stops_;
  text::AnswerParser parser_;
  bool one_call_;
  bool called_ = false;
};

}  // namespace sluice::serve
