#pragma once

#include <memory>

#include "comm/communicator.h"
#include "parallel/grid.h"

namespace sluice::pipeline {

// The communicators of a rank beside that of all ranks.
struct Groups {
  std::unique_ptr<comm::Communicator> lanes;  // of its stage
  std::unique_ptr<comm::Communicator> heads;  // of its head group; null without attention tensor parallelism
};

// Of `rank` of `world`. Every rank calls it at the same place in the order of its Subgroup calls.
Groups MakeGroups(comm::Communicator& world, const parallel::Grid& grid, int rank);

// One transfer of each kind that the passes of `rank` will make: rows to the stage after and from the stage
// before, and in each group a gather and an exchange. What they need beside their buffers (connections,
// NCCL's memory) is there afterwards, or its lack is an error, before the weights are loaded. Waits, under
// names in `recorder`, for the ranks it shares transfers with; every rank calls it before any other transfer.
// Throws as those do.
void TryDataPlane(comm::Communicator& world, const Groups& groups, const parallel::Grid& grid, int rank,
                  trace::Recorder& recorder);

}  // namespace sluice::pipeline
