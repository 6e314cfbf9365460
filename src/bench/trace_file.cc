#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "base/error.h"
#include "bench/json.h"
#include "bench/workload.h"
#include "tensor/counter_random.h"

namespace sluice::bench {
namespace {

constexpr int64_t kHashedTokens = 512;  // of a hash id
constexpr int64_t kLongest = 100'000'000;

// A whole number in [low, kLongest] under `name`. This and what follows throw what is wrong with a line.
int64_t Count(const Json& line, const char* name, int64_t low) {
  const auto found = line.find(name);
  if (found == line.end()) Fail(ErrorKind::kUsage, "{} is not there", name);
  if (!found->is_number_integer() || *found < low || *found > kLongest) {
    Fail(ErrorKind::kUsage, "{} is {}, not a whole number from {} to {}", name, found->dump(), low, kLongest);
  }
  return found->get<int64_t>();
}

// Tokens of a prompt of which only the length, and what it shares with others, is known.
std::vector<int32_t> Ids(const Json& line, int64_t length, uint64_t own_key, uint64_t seed,
                         int64_t vocab_size) {
  std::vector<uint64_t> blocks;
  if (const auto found = line.find("hash_ids"); found != line.end()) {
    if (!found->is_array()) Fail(ErrorKind::kUsage, "hash_ids is not a list");
    for (const Json& id : *found) {
      if (!id.is_number_integer())
        Fail(ErrorKind::kUsage, "hash_ids holds {}, not a whole number", id.dump());
      blocks.push_back(TensorKey(seed, fmt::format("block {}", id.get<int64_t>())));
    }
  }
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) {
    const auto block = static_cast<size_t>(i / kHashedTokens);
    const uint64_t key = block < blocks.size() ? blocks[block] : own_key;
    const uint64_t start = SplitMix64(key) % static_cast<uint64_t>(vocab_size);
    ids.push_back(static_cast<int32_t>((static_cast<int64_t>(start) + i) % vocab_size));
  }
  return ids;
}

std::vector<int32_t> GivenIds(const Json& list, int64_t vocab_size) {
  std::vector<int32_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id < 0 || id >= vocab_size) {
      Fail(ErrorKind::kUsage, "prompt holds {}, not a token id from 0 to {}", id.dump(), vocab_size - 1);
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

LoadRequest RequestOf(const Json& line, uint64_t own_key, uint64_t seed, int64_t vocab_size) {
  if (!line.is_object()) Fail(ErrorKind::kUsage, "it is no JSON object");
  LoadRequest request;
  request.output_tokens = Count(line, "output_length", 1);
  const auto prompt = line.find("prompt");
  if (prompt == line.end()) {
    request.prompt_tokens = Count(line, "input_length", 1);
    request.prompt = Ids(line, request.prompt_tokens, own_key, seed, vocab_size);
  } else if (prompt->is_string()) {
    request.prompt = prompt->get<std::string>();
  } else if (prompt->is_array() && !prompt->empty()) {
    request.prompt = GivenIds(*prompt, vocab_size);
    request.prompt_tokens = static_cast<int64_t>(prompt->size());
  } else {
    Fail(ErrorKind::kUsage, "prompt is neither a text nor a list of token ids");
  }
  return request;
}

double MillisecondsOf(const Json& line, bool timed) {
  const auto found = line.find("timestamp");
  if (found == line.end() && !timed) return 0.0;
  if (found == line.end()) Fail(ErrorKind::kUsage, "timestamp is not there");
  if (!found->is_number() || *found < 0) {
    Fail(ErrorKind::kUsage, "timestamp is {}, not milliseconds", found->dump());
  }
  return found->get<double>();
}

}  // namespace

TraceFile ReadTrace(const std::filesystem::path& path, const TraceOptions& options, int64_t vocab_size,
                    uint64_t seed) {
  std::ifstream file(path);
  if (!file) Fail(ErrorKind::kUsage, "--dataset-path {} cannot be read", path.string());
  TraceFile trace;
  std::string text;
  for (int64_t number = 1; std::getline(file, text); ++number) {
    if (static_cast<int64_t>(trace.requests.size()) == options.limit) break;
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
      if (line.is_discarded()) Fail(ErrorKind::kUsage, "it is not JSON");
      LoadRequest request =
          RequestOf(line, TensorKey(seed, fmt::format("line {}", number)), seed, vocab_size);
      request.at_seconds = MillisecondsOf(line, options.timed) / 1e3;
      trace.requests.push_back(std::move(request));
    } catch (const Error& wrong) {
      trace.bad_lines.push_back(fmt::format("{}:{}: {}", path.string(), number, wrong.what()));
    }
  }
  if (trace.requests.empty()) return trace;
  std::ranges::stable_sort(trace.requests, {}, &LoadRequest::at_seconds);
  const double first = trace.requests.front().at_seconds;
  for (LoadRequest& request : trace.requests) {
    request.at_seconds = options.timed ? (request.at_seconds - first) * options.slowdown : 0.0;
  }
  return trace;
}

}  // namespace sluice::bench
