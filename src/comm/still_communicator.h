#pragma once

#include <memory>

#include "comm/communicator.h"

namespace sluice::comm {

// Rank `rank` of a group of `size` in which nothing moves: every call is over when its fence is, and buffers
// stay as they are. For whoever wants to see what a pass asks of its group.
std::unique_ptr<Communicator> MakeStill(int rank, int size);

}  // namespace sluice::comm
