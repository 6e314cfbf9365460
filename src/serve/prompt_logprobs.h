#pragma once

#include <cstdint>
#include <vector>

#include "engine/request.h"
#include "serve/json.h"
#include "text/tokenizer.h"

namespace sluice::serve {

// Log-probabilities of a prompt in vLLM's form: null for the first token, then for each an object of token
// ids with {logprob, rank, decoded_token}: the `top` likeliest, and the token itself, whose rank is null when
// it is not among those that the engine named. `logprobs` has an entry per token of `prompt`.
Json PromptLogprobsOf(const text::Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
                      const std::vector<engine::TokenLogprobs>& logprobs, int32_t top);

}  // namespace sluice::serve
