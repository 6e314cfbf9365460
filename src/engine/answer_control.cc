#include "engine/answer_control.h"

#include <limits>
#include <string_view>

#include "base/error.h"

namespace sluice::engine {
namespace {

// Below this a large logit would leave the range of a float.
constexpr float kLeastRepetitionPenalty = 0.01F;

// Negated comparisons, so that what is not a number is outside too.
float Within(std::string_view name, float value, float least, float most) {
  if (!(value >= least && value <= most)) {
    Fail(ErrorKind::kBadRequest, "{} is {}; it must be from {} to {}", name, value, least, most);
  }
  return value;
}

}  // namespace

std::unique_ptr<AnswerControl> AnswerControl::Of(const Request& request, int64_t vocab_size) {
  std::unique_ptr<AnswerControl> control(new AnswerControl(request, vocab_size));
  const bool adjusts = control->token_by_token() || !request.logit_bias.empty() || request.min_tokens > 0;
  return adjusts ? std::move(control) : nullptr;
}

AnswerControl::AnswerControl(const Request& request, int64_t vocab_size)
    : frequency_penalty_(Within("frequency_penalty", request.frequency_penalty, -2.0F, 2.0F)),
      presence_penalty_(Within("presence_penalty", request.presence_penalty, -2.0F, 2.0F)),
      repetition_penalty_(
          Within("repetition_penalty", request.repetition_penalty, kLeastRepetitionPenalty, 2.0F)),
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
  if (min_tokens_ < 0 || min_tokens_ > request.max_tokens) {
    Fail(ErrorKind::kBadRequest, "min_tokens is {}; it must be from 0 to max_tokens, which is {}",
         min_tokens_, request.max_tokens);
  }
  // A stop token that the model has not is never sampled, and no ban or mask has to name it.
  std::erase_if(stops_, [&](int32_t token) { return token < 0 || token >= vocab_size; });
  if (repetition_penalty_ != 1.0F) repeated_.insert(request.prompt.begin(), request.prompt.end());
  if (request.grammar == nullptr) return;
  grammar_.emplace(request.grammar);
  allowed_.resize(static_cast<size_t>((vocab_size + 31) / 32));
  grammar_began_ = grammar_after_ < 0;
  if (grammar_began_ && FillMask() != Next::kAnyToken) {
    Fail(ErrorKind::kBadRequest, "the grammar of the answer allows no text: loosen it or leave it out");
  }
}

bool AnswerControl::token_by_token() const {
  return grammar_.has_value() || frequency_penalty_ != 0.0F || presence_penalty_ != 0.0F ||
         repetition_penalty_ != 1.0F;
}

AnswerControl::Next AnswerControl::FillMask() {
  const auto [text, end] = grammar_->Fill(allowed_);
  if (end) {
    for (const int32_t token : stops_) allowed_[static_cast<size_t>(token) / 32] |= 1U << (token % 32);
  }
  return text ? Next::kAnyToken : end ? Next::kEnd : Next::kNothing;
}

ops::LogitAdjust AnswerControl::AdjustFor(int64_t index) const {
  SLUICE_CHECK(!token_by_token() || index == accepted_, "token {} is to be drawn after {} came back", index,
               accepted_);
  ops::LogitAdjust adjust;
  if (!repeated_.empty()) {
    adjust.repetition_penalty = repetition_penalty_;
    adjust.repeated.assign(repeated_.begin(), repeated_.end());
  }
  // One sum for each token, in double and rounded once: in which order a request names them does not show.
  std::map<int32_t, double> sums(logit_bias_.begin(), logit_bias_.end());
  for (const auto& [token, count] : counts_) {
    sums[token] -= static_cast<double>(frequency_penalty_) * static_cast<double>(count) +
                   static_cast<double>(presence_penalty_);
  }
  // An answer does not end before its grammar has begun.
  if (index < min_tokens_ || (grammar_.has_value() && !grammar_began_)) {
    for (const int32_t token : stops_) sums[token] = -std::numeric_limits<double>::infinity();
  }
  for (const auto& [token, sum] : sums) adjust.biases.push_back({token, static_cast<float>(sum)});
  if (grammar_began_) adjust.allowed = allowed_;
  return adjust;
}

AnswerControl::Next AnswerControl::Accept(int32_t token) {
  ++accepted_;
  if (frequency_penalty_ != 0.0F || presence_penalty_ != 0.0F) ++counts_[token];
  if (repetition_penalty_ != 1.0F) repeated_.insert(token);
  if (!grammar_.has_value()) return Next::kAnyToken;
  if (grammar_began_) {
    SLUICE_CHECK(grammar_->Accept(token), "token {} was sampled and is not in its grammar's mask", token);
    return FillMask();
  }
  if (token != grammar_after_) return Next::kAnyToken;
  grammar_began_ = true;
  return FillMask();
}

}  // namespace sluice::engine
