#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "parallel/grid.h"
#include "pipeline/messages.h"

namespace sluice::engine {

// What the controller knows of one rank.
struct RankState {
  bool ready = false;
  bool gone = false;        // its control channel closed or its process ended
  std::string gone_reason;  // "killed by signal 9", "the connection was closed"
  std::string failure;      // the sentence of its own error, if it reported one
  bool failure_is_a_lost_peer = false;
  int64_t last_heard_ns = 0;     // of the monotonic clock
  int64_t last_progress_ns = 0;  // when its progress count last moved
  uint64_t answered = 0;         // number of the last heartbeat request it has answered
  pipeline::Heartbeat heartbeat;
};

// "rank 3 (stage 1, lane 1)"
std::string DescribeRank(const parallel::Grid& grid, int rank);

// The sentence that names the rank that did not arrive, or nothing while all is well. Drawn from the ranks'
// own records alone, surest evidence first:
//  1. a rank that is gone, 2. a rank that reported an error of its own, 3. a rank not heard of for `limit`,
//  4. a wait on a peer that has lasted `limit`: who waits for whom is followed to the end of the chain, and
//     the rank there is named, unless it still makes progress (a long computation is never named).
// A rank that only reports that it lost a peer is a witness, not the culprit: it is named when 2 s
// have passed without better evidence.
std::optional<std::string> FindVerdict(const parallel::Grid& grid, const std::vector<RankState>& ranks,
                                       Duration limit, int64_t now_ns);

}  // namespace sluice::engine
