#pragma once

#include <memory>

#include "base/clock.h"
#include "comm/communicator.h"

namespace sluice::comm {

// Emulates a slow link: every Send of the result is handed to `inner` `latency` later, by a thread of its own
// and in order, so sends in a row pay the latency once and the sender computes on meanwhile. The sender's
// Wait returns when the real send is done. Only point-to-point transfers (the hops) are delayed: collectives
// and everything a subgroup does pass through at once.
std::unique_ptr<Communicator> MakeDelayed(std::unique_ptr<Communicator> inner, Duration latency);

}  // namespace sluice::comm
