#pragma once

#include <span>

#include "comm/communicator.h"
#include "parallel/grid.h"

namespace sluice::pipeline {

// One transfer of each kind that the passes of `rank` will make: rows to the stage after and from the stage
// before, and in each of `groups` a gather and an exchange. What they need beside their buffers (connections,
// NCCL's memory) is there afterwards, or its lack is an error, before anything is served. Every rank of
// `world` calls it at the same place in the order of its transfers; waits for the ranks it shares transfers
// with. Throws as those do.
void TryDataPlane(comm::Communicator& world, const parallel::Grid& grid, int rank,
                  std::span<comm::Communicator* const> groups);

}  // namespace sluice::pipeline
