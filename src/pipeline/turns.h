#pragma once

#include <cstdint>

#include "comm/frame.h"

// Which message a rank may send when (what it may hear is judged in Rank::NextOnList). The numbers of an
// ordered channel (comm/ordered_channel.h) find frames that the way disturbed; these find a peer that says
// the wrong thing. Each throws Error(kRankLost) with a sentence of what came and what was due. Messages
// without an order (heartbeats, requests) pass.
namespace sluice::pipeline {

// What the controller hears from one rank: ready once, then the results of steps 0, 1, 2, ... if it is the
// rank that `samples`, and answers to what was asked; after a failure no more than heartbeats.
class RankTurns {
 public:
  explicit RankTurns(bool samples) : samples_(samples) {}
  void Check(const comm::Frame& frame);
  // `request` is about to be sent: if it has an answer, one more is due.
  void Asked(const comm::Frame& request);

 private:
  bool samples_;
  bool ready_ = false;
  bool failed_ = false;
  uint64_t next_result_ = 0;
  int spans_due_ = 0;
  int dumps_due_ = 0;
};

}  // namespace sluice::pipeline
