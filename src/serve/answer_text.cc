#include "serve/answer_text.h"

#include <utility>

namespace sluice::serve {

AnswerText::Piece AnswerText::Shown(std::string text) const {
  return reasoning() ? Piece{std::move(text), {}} : Piece{{}, std::move(text)};
}

AnswerText::Piece AnswerText::Push(int32_t token) {
  if (token == end_of_thinking_) {
    Piece last = Finish();
    end_of_thinking_.reset();
    return last;
  }
  return Shown(stops_.Push(detokenizer_.Push(token)));
}

AnswerText::Piece AnswerText::Finish() {
  std::string rest = stops_.Push(detokenizer_.Finish());
  rest += stops_.Finish();
  return Shown(std::move(rest));
}

}  // namespace sluice::serve
