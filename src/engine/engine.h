#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/request.h"

namespace sluice::engine {

// What one rank is and has done since the start.
struct RankInfo {
  int32_t rank = 0;
  int32_t stage = 0;
  int32_t lane = 0;
  std::vector<std::pair<int64_t, int64_t>> layers;  // [begin, end) ranges
  int64_t rows_computed = 0;
  int64_t hop_bytes_sent = 0;
  int64_t hop_bytes_received = 0;
};

// Limits and identity that requests are checked against.
struct EngineInfo {
  int64_t vocab_size = 0;
  int64_t context_length = 0;    // prompt + answer
  int64_t max_total_tokens = 0;  // cache capacity; one request may not need more
  std::vector<int32_t> eos_token_ids;
  std::string numerics;  // "exact" or "fp8"
};

// How busy the engine is, as of its last step.
struct EngineLoad {
  int64_t running = 0;      // requests admitted
  int64_t waiting = 0;      // requests not admitted yet
  int64_t used_tokens = 0;  // of the cache, in whole pages reserved for prompts and answers
  int64_t max_total_tokens = 0;
};

// The facade the server talks to. Thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual const EngineInfo& info() const = 0;
  // Queues the request; events go to `sink`. Throws Error(kBadRequest) when it can never run (an empty
  // prompt, a token outside the vocabulary, prompt + max_tokens over a limit) and Error(kRankLost) when the
  // job has ended.
  virtual RequestId Submit(Request request, EventSink sink) = 0;
  // Ends a request early; its last event has FinishReason::kAbort. Unknown or finished ids are ignored.
  virtual void Abort(RequestId id) = 0;
  virtual std::vector<RankInfo> Ranks() = 0;
  virtual EngineLoad Load() const = 0;
  // Empty while every rank is well; otherwise the sentence of the verdict, naming the rank.
  virtual std::string Verdict() const = 0;
};

}  // namespace sluice::engine
