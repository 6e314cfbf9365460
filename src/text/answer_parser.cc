#include "text/answer_parser.h"

#include <iterator>
#include <utility>

#include "base/error.h"

namespace sluice::text {

void AnswerPiece::Append(AnswerPiece&& more) {
  reasoning += more.reasoning;
  content += more.content;
  calls.insert(calls.end(), std::make_move_iterator(more.calls.begin()),
               std::make_move_iterator(more.calls.end()));
}

AnswerParser::AnswerParser(const AnswerFormat& format) : reasoning_(format.begins_in_reasoning) {
  if (format.tool_calls) calls_.emplace(format.tool_names);
  SLUICE_CHECK(Push(format.written).empty(), "the prompt opens more than the beginning of a call: {}",
               format.written);
}

AnswerPiece AnswerParser::Push(std::string_view text) { return Content(reasoning_.Push(text), false); }

AnswerPiece AnswerParser::Finish() { return Content(reasoning_.Finish(), true); }

AnswerPiece AnswerParser::Content(ReasoningParser::Piece split, bool last) {
  AnswerPiece out;
  out.reasoning = std::move(split.reasoning);
  if (!calls_) {
    out.content += split.content;
    return out;
  }
  ToolCallParser::Piece piece = calls_->Push(split.content);
  out.Append({"", std::move(piece.content), std::move(piece.calls)});
  if (last) {
    piece = calls_->Finish();
    out.Append({"", std::move(piece.content), std::move(piece.calls)});
  }
  return out;
}

std::string AnswerParser::fault() const {
  if (reasoning_.reasoning()) return "the reasoning has no end";
  return calls_ ? calls_->fault() : "";
}

}  // namespace sluice::text
