#pragma once

#include <memory>

#include "comm/communicator.h"

namespace sluice::comm {

// The ranks of `host`, whose data plane reads and writes the host's memory, with buffers in `device`: what is
// sent is copied out before Send returns, what is received is copied in by Wait or the end of its transfer,
// through buffers of `staging` (the host's memory, pinned where the device copies such faster). Buffers on
// the host are staged like all others. Receives hold no SM. Everything else (tags, limits, sentences, aborts)
// is as `host` has it.
//
// Staging buffers are kept for the next transfer, so their memory is that of what was under way at once.
std::unique_ptr<Communicator> MakeStaged(std::unique_ptr<Communicator> host, Memory& device, Memory& staging);

}  // namespace sluice::comm
