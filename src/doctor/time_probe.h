#pragma once

#include <functional>
#include <string>

#include "base/clock.h"
#include "comm/address.h"
#include "comm/socket_channel.h"
#include "doctor/finding.h"

// Two doctors compare clocks: `--listen` answers, `--peer` asks. A probe is an empty control frame; the
// answer is the wall clock, in nanoseconds since 1970, and the build. Of eight round trips the shortest
// counts: the peer's clock is taken to have been read half-way through it, so the difference is known to half
// of it.
namespace sluice::doctor {

using WallClock = std::function<int64_t()>;  // nanoseconds since 1970
int64_t WallNs();

// Answers whoever connects, one after the other, until `stop` says so; it is asked a few times a second.
void AnswerProbes(comm::Listener& listener, const std::string& build, const WallClock& now,
                  const std::function<bool()>& stop);

// Whether the doctor at `peer` is reached within `timeout`, how far its clock is from this host's, and
// whether it is of the same build.
Findings AskPeer(const comm::Address& peer, const std::string& build, Duration timeout);

// Whether the system's clock is kept by somebody (NTP, PTP).
Finding LookAtOwnClock();

}  // namespace sluice::doctor
