#pragma once

#include <memory>

#include "comm/communicator.h"

namespace sluice::comm {

// The communicator of `rank` in a world of `size` of which no other rank is there: to measure on one device
// what one rank of a large layout computes. Every call takes and gives exactly the bytes that it would with
// the others, and waits for nobody. In place of what another rank would give to a collective stands what this
// one gives, from its beginning and again from there as often as is needed: whole rows of it, if all parts
// consist of whole rows. An exchange replays the part for this rank itself, or if there is none the longest
// that it sends; where it sends nothing at all, zeros. So what is gathered (expert choices) agrees with what
// is exchanged because of it. Sends go nowhere; a Receive leaves the buffer as it is.
// Buffers lie in `memory` or on the host. After Abort every call throws Error(kRankLost).
std::unique_ptr<Communicator> MakeReplayWorld(int rank, int size, Memory& memory = HostMemory());

}  // namespace sluice::comm
