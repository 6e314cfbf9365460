#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "engine/request.h"
#include "ops/ops.h"
#include "text/grammar.h"

namespace sluice::engine {

// What a request does to the choice of its tokens: penalties, biases, a least length, a grammar. Ranks keep
// nothing of an answer, so all of it is worked out here, by the controller, for one row at a time.
class AnswerControl {
 public:
  // Null for a request that leaves the logits as they are. Throws Error(kBadRequest) for a number outside its
  // range (docs/api.md), a token outside the vocabulary and a grammar that allows no text.
  static std::unique_ptr<AnswerControl> Of(const Request& request, int64_t vocab_size);

  // The adjust of a row depends on the tokens before it, so that none can be published ahead.
  bool token_by_token() const;
  // What is done to the logits from which token `index` of the answer is drawn; with token_by_token, after
  // exactly `index` calls of Accept.
  ops::LogitAdjust AdjustFor(int64_t index) const;

  enum class Next {
    kAnyToken,  // or any that the adjust leaves
    kEnd,       // the grammar's text is whole and nothing may follow: the answer ends with the last token
    kNothing,   // the grammar allows neither text nor an end
  };
  // A token of the answer has come back, not one that stops it. What may follow it?
  Next Accept(int32_t token);

 private:
  AnswerControl(const Request& request, int64_t vocab_size);
  Next FillMask();

  const float frequency_penalty_;
  const float presence_penalty_;
  const float repetition_penalty_;
  const int64_t min_tokens_;
  const int32_t grammar_after_;
  std::map<int32_t, float> logit_bias_;
  std::set<int32_t> stops_;
  std::map<int32_t, int64_t> counts_;  // of the answer's tokens
  std::set<int32_t> repeated_;         // of prompt and answer; empty without a repetition penalty
  std::optional<text::GrammarState> grammar_;
  bool grammar_began_ = false;
  int64_t accepted_ = 0;
  // The mask of the next row, made ahead: Accept has to know whether anything is in it.
  std::vector<uint32_t> allowed_;
  text::GrammarState::Next next_;
};

}  // namespace sluice::engine
