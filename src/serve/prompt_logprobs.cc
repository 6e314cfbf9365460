#include "serve/prompt_logprobs.h"

#include <string>

#include "base/error.h"
#include "serve/token_text.h"

namespace sluice::serve {

Json PromptLogprobsOf(const text::Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
                      const std::vector<engine::TokenLogprobs>& logprobs, int32_t top) {
  SLUICE_CHECK(logprobs.size() == prompt.size(), "the engine sent no log-probabilities of the prompt");
  const auto entry = [&tokenizer](int32_t token, float logprob, Json rank) {
    return Json{
        {"logprob", logprob}, {"rank", std::move(rank)}, {"decoded_token", TokenText(tokenizer, token)}};
  };
  Json all = Json::array();
  all.push_back(nullptr);
  for (std::size_t i = 1; i < prompt.size(); ++i) {
    Json here = Json::object();
    Json rank = nullptr;
    for (std::size_t k = 0; k < logprobs[i].top.size(); ++k) {
      const engine::LogprobEntry& other = logprobs[i].top[k];
      if (other.token == prompt[i]) rank = k + 1;
      if (k < static_cast<std::size_t>(top)) {
        here[std::to_string(other.token)] = entry(other.token, other.logprob, k + 1);
      }
    }
    const std::string own = std::to_string(prompt[i]);
    if (!here.contains(own)) here[own] = entry(prompt[i], logprobs[i].logprob, rank);
    all.push_back(std::move(here));
  }
  return all;
}

}  // namespace sluice::serve
