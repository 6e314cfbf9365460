#include "engine/answer_control.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "base/error.h"

namespace sluice::engine {
namespace {

// Negated comparisons, so that what is not a number is outside too.
float Within(std::string_view name, float value, float least, float most) {
  if (!(value >= least && value <= most)) {
    Fail(ErrorKind::kBadRequest, "{} is {}; it must be from {} to {}", name, value, least, most);
  }
  return value;
}

}  // namespace

AnswerControl::AnswerControl(const Request& request, int64_t vocab_size)
    : vocab_size_(vocab_size),
      frequency_penalty_(Within("frequency_penalty", request.frequency_penalty, -2.0F, 2.0F)),
      presence_penalty_(Within("presence_penalty", request.presence_penalty, -2.0F, 2.0F)),
      repetition_penalty_(Within("repetition_penalty", request.repetition_penalty, 0.01F, 100.0F)),
      min_tokens_(request.min_tokens),
      grammar_after_(request.grammar_after),
      stops_(request.stop_token_ids.begin(), request.stop_token_ids.end()) {
  Within("min_p", request.min_p, 0.0F, 1.0F);
  const auto check = [&](std::string_view name, int32_t token) {
    if (token < 0 || token >= vocab_size) {
      Fail(ErrorKind::kBadRequest, "{} names token {}, which is outside the vocabulary of {}", name, token,
           vocab_size);
    }
  };
  for (const auto& [token, bias] : request.logit_bias) {
    check("logit_bias", token);
    logit_bias_[token] = Within("logit_bias", bias, -100.0F, 100.0F);
  }
  for (const int32_t token : stops_) check("stop_token_ids", token);
  if (min_tokens_ < 0 || min_tokens_ > request.max_tokens) {
    Fail(ErrorKind::kBadRequest, "min_tokens is {}; it must be from 0 to max_tokens, which is {}", min_tokens_,
         request.max_tokens);
  }
  if (repetition_penalty_ != 1.0F) repeated_.insert(request.prompt.begin(), request.prompt.end());
  if (request.grammar != nullptr) {
    grammar_.emplace(request.grammar);
    allowed_.resize(static_cast<size_t>((vocab_size + 31) / 32));
    if (grammar_after_ < 0) {
      grammar_began_ = true;
      next_ = grammar_->Fill(allowed_);
    }
  }
}

bool AnswerControl::token_by_token() const {
  return grammar_.has_value() || frequency_penalty_ != 0.0F || presence_penalty_ != 0.0F ||
         repetition_penalty_ != 1.0F;
}

void AnswerControl::Mask(ops::LogitAdjust& adjust) {
  if (!next_.text && !next_.end) {
    Fail(ErrorKind::kInternal, "the grammar of this answer allows neither a token nor an end here");
  }
  adjust.allowed = allowed_;
  if (!next_.end) return;
  for (const int32_t token : stops_) adjust.allowed[token / 32] |= 1U << (token % 32);
}

ops::LogitAdjust AnswerControl::AdjustFor(int64_t index) {
  ops::LogitAdjust adjust;
  if (!repeated_.empty()) {
    adjust.repetition_penalty = repetition_penalty_;
    adjust.repeated.assign(repeated_.begin(), repeated_.end());
  }
  // One sum for each token, in double and rounded once: the order of a request's biases does not show.
  std::map<int32_t, double> sums(logit_bias_.begin(), logit_bias_.end());
  if (frequency_penalty_ != 0.0F || presence_penalty_ != 0.0F) {
    for (const auto& [token, count] : counts_) {
      sums[token] -= static_cast<double>(frequency_penalty_) * static_cast<double>(count) +
                     static_cast<double>(presence_penalty_);
    }
  }
  const bool grammar = grammar_began_;
  // A grammar whose text is over can only end, however short the answer is.
  if (index < min_tokens_ && !(grammar && !next_.text)) {
    for (const int32_t token : stops_) sums[token] = -std::numeric_limits<double>::infinity();
  }
  for (const auto& [token, sum] : sums) adjust.biases.push_back({token, static_cast<float>(sum)});
  if (grammar) Mask(adjust);
  return adjust;
}

bool AnswerControl::Accept(int32_t token) {
  if (frequency_penalty_ != 0.0F || presence_penalty_ != 0.0F) ++counts_[token];
  if (repetition_penalty_ != 1.0F) repeated_.insert(token);
  if (!grammar_.has_value()) return false;
  if (grammar_began_) {
    SLUICE_CHECK(grammar_->Accept(token), "token {} was sampled and is not in the grammar's mask", token);
  } else if (token == grammar_after_) {
    grammar_began_ = true;
  } else {
    return false;
  }
  next_ = grammar_->Fill(allowed_);
  return next_.end && !next_.text;
}

}  // namespace sluice::engine
