#include "serve/request_limits.h"

#include <array>

#include "base/error.h"

namespace sluice::serve {
namespace {

constexpr double kInt32Max = 2147483647.0;
constexpr double kInt64Bound = 9223372036854775808.0;  // 2^63

constexpr std::array kNumericFields{
    NumericField{"max_tokens", true, 0, kInt32Max, false},
    NumericField{"max_completion_tokens", true, 0, kInt32Max, false},
    NumericField{"max_new_tokens", true, 0, kInt32Max, false},
    NumericField{"sampling_seed", true, -kInt64Bound, kInt64Bound, false},
    NumericField{"logprob_start_len", true, -1, kInt32Max, false},
    NumericField{"top_logprobs_num", true, 0, 20, false},
    NumericField{"min_tokens", true, 0, kInt32Max, false},
    NumericField{"temperature", false, 0, 2, false},
    NumericField{"top_p", false, 0, 1, true},
    NumericField{"min_p", false, 0, 1, false},
    NumericField{"top_k", true, -1, kInt32Max, false},
    NumericField{"seed", true, -kInt64Bound, kInt64Bound, false},
    NumericField{"n", true, 1, 128, false},
    NumericField{"best_of", true, 1, 128, false},
    NumericField{"prompt_logprobs", true, 0, 20, false},
    NumericField{"truncate_prompt_tokens", true, -1, kInt32Max, false},
    NumericField{"priority", true, -1000000, 1000000, false},
    NumericField{"deadline_ms", true, 1, 86400000, false},
    NumericField{"start_step", true, 0, kInt32Max, false},
    NumericField{"num_steps", true, 1, kInt32Max, false},
    NumericField{"logprobs", true, 0, 5, false},
    NumericField{"top_logprobs", true, 0, 20, false},
    NumericField{"frequency_penalty", false, -2, 2, false},
    NumericField{"presence_penalty", false, -2, 2, false},
    NumericField{"repetition_penalty", false, 0.01, 2, false},
};

}  // namespace

const NumericField& LimitsOf(std::string_view name) {
  for (const NumericField& field : kNumericFields) {
    if (field.name == name) return field;
  }
  Fail(ErrorKind::kInternal, "{} has no row in request_limits.cc", name);
}

}  // namespace sluice::serve
