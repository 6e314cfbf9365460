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
  int accused = -1;              // whom that error blames, where it is not the rank itself
  int64_t last_heard_ns = 0;     // of the monotonic clock
  int64_t last_progress_ns = 0;  // when its progress count last moved
  uint64_t answered = 0;         // number of the last heartbeat request it has answered
  int64_t peer_passed_ns = 0;    // since when whom it waits for is seen to have done its part; 0: it has not
  pipeline::Heartbeat heartbeat;
};

// A step that every rank was sent and whose result is not here.
struct DueStep {
  int64_t step = -1;
  int64_t published_ns = 0;
};

// What a verdict is drawn from.
struct JobRecord {
  parallel::Grid grid;
  std::vector<RankState> ranks;
  std::vector<DueStep> due;    // ascending
  int64_t last_result_ns = 0;  // when the last result came
  int64_t started_ns = 0;      // since when ranks that are not ready are waited for
};

// How long is too long.
struct StallLimit {
  Duration wait{0};
  // Whether a rank that says it computes, and makes no progress for `wait`, is named when somebody waits for
  // it. Without, computing is never a stall: one layer of a long chunk may take longer than a soft limit.
  bool judges_computing = true;
};

struct Verdict {
  int rank = -1;  // who did not arrive
  std::string sentence;
};

// "rank 3 (stage 1, lane 1)", and " on HOST" once its heartbeats have told the host.
std::string DescribeRank(const parallel::Grid& grid, int rank);
std::string DescribeRank(const JobRecord& job, int rank);
// "at step 7, pass 0, layer 3"
std::string DescribePlace(const trace::Place& place);

// Who did not arrive, or nothing while all is well. Drawn from the ranks' own records and the controller's
// list of published steps alone, surest evidence first:
//  1. a rank that is gone;
//  2. a rank that reported an error of its own, or that another's error blames;
//  3. a rank not heard of for the limit;
//  4. a rank that a published step has not reached;
//  5. a rank that somebody has waited for, although it has been past the place for the limit: it did its
//  part,
//     and what it sent was lost;
//  6. a rank that somebody has waited for, for the limit, and that waits for no other: it sits idle, waits
//  for
//     something of its own, or (StallLimit::judges_computing) computes without progress. The controller waits
//     too: for every rank to be ready, which loads as long as it has to, and for the result of the oldest
//     step, from lane 0 of the last stage;
//  7. of ranks that wait for one another in a circle, the one that has come least far.
// A rank that only reports that it lost a peer is a witness, not the culprit: it is named when 2 s have
// passed without better evidence. Ages end at a rank's last heartbeat, not now: what a silent rank waited for
// says nothing of the present.
//
// Rule 5 needs what the record alone does not show, since when a rank is past a place: call NotePassed now
// and then, and before. A wait may be as old as a long chunk when what ends it has only just been sent.
void NotePassed(JobRecord& job, int64_t now_ns);
std::optional<Verdict> FindVerdict(const JobRecord& job, const StallLimit& limit, int64_t now_ns);

}  // namespace sluice::engine
