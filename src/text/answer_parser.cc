#include "text/answer_parser.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "text/deepseek_v32_texts.h"
#include "text/glm47_parser.h"
#include "text/glm_texts.h"
#include "text/tool_call_parser.h"

namespace sluice::text {
namespace {

std::unique_ptr<CallParser> CallParserOf(const AnswerFormat& format) {
  if (!format.tool_calls) return nullptr;
  if (format.markup == CallMarkup::kGlm47) {
    return std::make_unique<Glm47Parser>(format.tool_names, format.functions);
  }
  return std::make_unique<ToolCallParser>(format.tool_names);
}

std::string_view CallInReasoning(const AnswerFormat& format) {
  return format.tool_calls && format.markup == CallMarkup::kGlm47 ? kGlmCallOpen : std::string_view();
}

}  // namespace

void AnswerPiece::Append(AnswerPiece&& more) {
  reasoning += more.reasoning;
  content += more.content;
  calls.insert(calls.end(), std::make_move_iterator(more.calls.begin()),
               std::make_move_iterator(more.calls.end()));
}

AnswerParser::AnswerParser(const AnswerFormat& format)
    : reasoning_(format.begins_in_reasoning, CallInReasoning(format)),
      markup_(format.markup),
      calls_(CallParserOf(format)) {
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
  if (reasoning_.ended_by_call() && !told_) {
    static_cast<Glm47Parser&>(*calls_).ExpectEndOfReasoning();
    told_ = true;
  }
  CallParser::Piece piece = calls_->Push(split.content);
  out.Append({"", std::move(piece.content), std::move(piece.calls)});
  if (last) {
    piece = calls_->Finish();
    out.Append({"", std::move(piece.content), std::move(piece.calls)});
  }
  return out;
}

bool AnswerParser::IsMark(std::string_view token) const {
  const bool glm = markup_ == CallMarkup::kGlm47;
  if (reasoning_.reasoning() || (glm && reasoning_.ended_by_call())) {
    if (token == kThinkClose) return true;
  }
  if (calls_ == nullptr) return false;
  return glm ? std::ranges::find(kGlmCallMarks, token) != kGlmCallMarks.end() : token == kDsml;
}

std::string AnswerParser::fault() const {
  if (reasoning_.reasoning()) return "the reasoning has no end";
  return calls_ ? calls_->fault() : "";
}

}  // namespace sluice::text
