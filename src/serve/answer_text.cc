#include "serve/answer_text.h"

#include <utility>

namespace sluice::serve {

bool AnswerText::IsShown(int32_t token) const {
  if (!skip_special_ || !tokenizer_->IsSpecial(token)) return true;
  const std::string_view bytes = tokenizer_->TokenBytes(token);
  return parser_.IsMark(bytes);
}

AnswerText::Piece AnswerText::Push(int32_t token) {
  if (!IsShown(token)) return {};
  Piece piece = parser_.Push(stops_.Push(detokenizer_.Push(token)));
  if (stop()) piece.Append(parser_.Finish());
  return Taken(std::move(piece));
}

AnswerText::Piece AnswerText::Finish() {
  std::string rest = stops_.Push(detokenizer_.Finish());
  rest += stops_.Finish();
  Piece piece = parser_.Push(rest);
  piece.Append(parser_.Finish());
  return Taken(std::move(piece));
}

AnswerText::Piece AnswerText::Taken(Piece piece) {
  called_ |= !piece.calls.empty();
  if (one_call_ && piece.calls.size() > 1) piece.calls.resize(1);
  return piece;
}

}  // namespace sluice::serve
