#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "comm/communicator.h"

namespace sluice::comm {

// What a receive occupies from its posting until its data is there, where it is to be like one that waits on
// a GPU. Receives of collectives, which are waited for at once, occupy nothing.
struct ReceiveHold {
  int sms = 0;  // by all pending receives of a rank together
  // Called when `rank` has to wait for what it posts; what it returns is let go of when the data is there or
  // nobody waits for it any more. Called by any thread.
  std::function<std::shared_ptr<void>(int rank)> begin;
};

// The communicators of `size` ranks that are threads of this process, in rank order; they may be destroyed in
// any order. Nothing is staged: a send and its receive post their buffers, and whoever comes second copies
// once, before Send or Receive returns. So a transfer is complete as soon as both sides have posted it,
// whether or not anybody waits. `timeout` bounds every wait. Abort ends the waits of all ranks; a rank that
// has failed, or whose communicators are destroyed, ends the waits for what it never posted. Sizes that
// disagree end the world with Error(kInternal). All buffers lie in `memory` or on the host. Receives hold
// what `hold` says.
//
// The stream's form, where `memory` has streams and receives hold nothing: whoever comes second puts the copy
// on a stream of the sender's, behind what both streams held when the buffers were posted, and the receiver's
// stream waits for the end of the copy. No host stands between the rows and the stream that takes them; the
// hosts hear of the end from the driver. A receiver's host waits until the copy is on that stream, not
// longer.
std::vector<std::unique_ptr<Communicator>> MakeThreadWorld(int size, Duration timeout,
                                                           Memory& memory = HostMemory(),
                                                           ReceiveHold hold = {});

}  // namespace sluice::comm
