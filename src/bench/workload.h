#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <variant>
#include <vector>

namespace sluice::bench {

// One request of a load.
struct LoadRequest {
  std::variant<std::vector<int32_t>, std::string> prompt;  // token ids, or text
  int64_t prompt_tokens = 0;                               // 0: a text's, which the server will say
  int64_t output_tokens = 1;
  double at_seconds = 0.0;  // since the run's start: not to be sent before
};
using Workload = std::vector<LoadRequest>;

// Lengths are uniform in [range_ratio x length, length], at least 1.
struct RandomLoad {
  int64_t requests = 1;
  int64_t input_len = 1024;
  int64_t output_len = 1024;
  double range_ratio = 0.0;  // 0 to 1; 1: all of full length
};

// Prompts as token ids below vocab_size that count up from a random one, as SGLang's random-ids has them.
// Equal seeds give equal loads, on every machine.
Workload RandomIds(const RandomLoad& load, int64_t vocab_size, uint64_t seed);

// Groups of prompts that begin alike, in random order unless `ordered`.
struct SharedPrefixLoad {
  int64_t groups = 64;
  int64_t prompts_per_group = 16;
  int64_t prefix_len = 2048;
  int64_t question_len = 128;
  int64_t output_len = 256;
  bool ordered = false;
};
Workload SharedPrefixes(const SharedPrefixLoad& load, int64_t vocab_size, uint64_t seed);

// A file with a JSON object a line, as the Mooncake traces have them:
//
//   timestamp      milliseconds; the first request's is the run's start
//   input_length   tokens of the prompt                         output_length  tokens to generate
//   hash_ids       optional: prompts with the same id in the same place share 512 tokens there
//   prompt         instead of input_length: a text, or a list of token ids
struct TraceFile {
  Workload requests;                   // by time
  std::vector<std::string> bad_lines;  // "FILE:LINE: what is wrong with it"
};
// The first `limit` good lines. at_seconds is the timestamp times `slowdown`, or 0 for all without `timed`.
// Throws Error(kUsage) for a file that cannot be read.
struct TraceOptions {
  int64_t limit = std::numeric_limits<int64_t>::max();
  bool timed = false;
  double slowdown = 1.0;
};
TraceFile ReadTrace(const std::filesystem::path& path, const TraceOptions& options, int64_t vocab_size,
                    uint64_t seed);

// Spreads the requests over time as a Poisson process of `rate` requests a second has them: the first at
// once, the others after exponentially distributed gaps. An infinite rate sends all at once.
void SpreadAsPoisson(Workload& workload, double rate, uint64_t seed);

}  // namespace sluice::bench
