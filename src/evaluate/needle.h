#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "evaluate/completion_server.h"
#include "evaluate/haystack.h"

namespace sluice::evaluate {

// Whether a model finds facts at every depth of long contexts. A haystack of each length has a needle at
// every depth; each is asked for in a request of its own, behind the same haystack, which the first request
// puts into the server's prefix cache.

struct NeedleOptions {
  ServerOptions server;
  NeedleStyle style = NeedleStyle::kProse;
  std::vector<int64_t> lengths = {4096};  // tokens of the whole prompt
  int64_t depths = 11;                    // from 0 % to 100 %, evenly
  int64_t trials = 1;                     // haystacks of each length, with other needles
  // The needle of this depth, 0 to depths - 1, is asked for and not hidden: a control that must not be found.
  std::optional<int64_t> leave_out;
  int64_t max_new_tokens = 16;
  int64_t parallel = 16;
  uint64_t seed = 1;
  double require = 0;  // the least share found
  std::filesystem::path output;
};

// A prompt's pieces as tokens: `hay` cut to `length` less the needles and the question, each needle behind
// its depth's share of the hay. Error(kUsage) when the needles do not fit.
std::vector<int32_t> NeedlePrompt(const std::vector<int32_t>& hay,
                                  const std::vector<std::vector<int32_t>>& needles,
                                  const std::vector<int32_t>& question, int64_t length);

// Asks, prints a table of depths by lengths and the share found with its interval, writes OUTPUT.json and
// OUTPUT.txt. False when the share found is below `require`. Throws as RunGsm8k does.
bool RunNeedle(NeedleOptions options);

}  // namespace sluice::evaluate
