#include "bench/workload.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "tensor/counter_random.h"

namespace sluice::bench {
namespace {

// A stream of numbers that is the same on every machine, which those of the standard's distributions are not.
class Numbers {
 public:
  Numbers(uint64_t seed, std::string_view name) : key_(TensorKey(seed, name)) {}
  uint64_t Next() { return SplitMix64(key_ + next_++); }
  // In [low, high].
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Next() % static_cast<uint64_t>(high - low + 1));
  }
  // In [0, 1).
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

 private:
  uint64_t key_;
  uint64_t next_ = 0;
};

int64_t LengthOf(int64_t full, double range_ratio, Numbers& numbers) {
  const auto least = static_cast<int64_t>(static_cast<double>(full) * range_ratio);
  return numbers.Between(std::clamp<int64_t>(least, 1, full), full);
}

void AppendCounting(int64_t from, int64_t count, int64_t vocab_size, std::vector<int32_t>& ids) {
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((from + i) % vocab_size));
}

}  // namespace

Workload RandomIds(const RandomLoad& load, int64_t vocab_size, uint64_t seed) {
  Numbers lengths(seed, "lengths");
  Numbers starts(seed, "starts");
  Workload workload;
  for (int64_t i = 0; i < load.requests; ++i) {
    LoadRequest request;
    request.prompt_tokens = LengthOf(load.input_len, load.range_ratio, lengths);
    request.output_tokens = LengthOf(load.output_len, load.range_ratio, lengths);
    std::vector<int32_t> ids;
    AppendCounting(starts.Between(0, vocab_size - 1), request.prompt_tokens, vocab_size, ids);
    request.prompt = std::move(ids);
    workload.push_back(std::move(request));
  }
  return workload;
}

Workload SharedPrefixes(const SharedPrefixLoad& load, int64_t vocab_size, uint64_t seed) {
  Numbers starts(seed, "shared prefixes");
  Workload workload;
  for (int64_t group = 0; group < load.groups; ++group) {
    std::vector<int32_t> prefix;
    AppendCounting(starts.Between(0, vocab_size - 1), load.prefix_len, vocab_size, prefix);
    for (int64_t i = 0; i < load.prompts_per_group; ++i) {
      std::vector<int32_t> ids = prefix;
      AppendCounting(starts.Between(0, vocab_size - 1), load.question_len, vocab_size, ids);
      const auto tokens = static_cast<int64_t>(ids.size());
      workload.push_back({std::move(ids), tokens, load.output_len, 0.0});
    }
  }
  if (load.ordered) return workload;
  for (size_t i = workload.size(); i > 1; --i) {  // Fisher and Yates
    std::swap(workload[i - 1], workload[static_cast<size_t>(starts.Between(0, static_cast<int64_t>(i) - 1))]);
  }
  return workload;
}

void SpreadAsPoisson(Workload& workload, double rate, uint64_t seed) {
  if (std::isinf(rate)) return;
  Numbers numbers(seed, "arrivals");
  double at = 0.0;
  for (LoadRequest& request : workload) {
    request.at_seconds = at;
    at -= std::log1p(-numbers.Unit()) / rate;
  }
}

}  // namespace sluice::bench
