#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/serving_metrics.h"
#include "bench/workload.h"

namespace sluice::bench {

// Sends one request and returns when its answer is there. Called on the run's threads, up to max_concurrency
// at a time; `slot` counts those threads from 0.
using SendRequest = std::function<RequestRecord(size_t slot, const LoadRequest& request)>;

struct LoadOutcome {
  std::vector<RequestRecord> records;  // of the requests sent, in the workload's order
  double seconds = 0.0;                // from the start of the run to the last answer's end
  std::string ended_early;             // why not all were sent; empty: all were
};

// Sends the requests in their order, each when its time has come and fewer than max_concurrency are under way
// (0: no limit). The first that finds the server unreachable ends the run: no other is sent, those under way
// are waited for. `on_done` is called after every request with how many are done, by one thread at a time.
LoadOutcome RunLoad(const Workload& workload, int64_t max_concurrency, const SendRequest& send,
                    const std::function<void(size_t)>& on_done);

}  // namespace sluice::bench
