#pragma once

#include <memory>
#include <vector>

#include "base/clock.h"
#include "comm/communicator.h"

namespace sluice::comm {

// The communicators of `size` ranks that are threads of this process, in rank order; they may be destroyed in
// any order. Nothing is staged: a send and its receive post their buffers, and whoever comes second copies
// once, before Send or Receive returns. So a transfer is complete as soon as both sides have posted it,
// whether or not anybody waits. `timeout` bounds every wait. Abort ends the waits of all ranks; a rank whose
// communicators are destroyed ends the waits for what it never posted. Sizes that disagree end the world with
// Error(kInternal). All buffers lie in `memory` or on the host.
std::vector<std::unique_ptr<Communicator>> MakeThreadWorld(int size, Duration timeout,
                                                           Memory& memory = HostMemory());

}  // namespace sluice::comm
