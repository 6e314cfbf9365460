#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "engine/job_settings.h"

namespace sluice::engine {

// Device memory that a rank on a GPU takes until it is ready; it takes none later. In bytes, from the
// checkpoint's headers and the settings alone.
struct RankMemory {
  int64_t weights = 0;      // those of MTP layers (--load-mtp) with them
  int64_t page = 0;         // of one cache page in all its layers
  int64_t activations = 0;  // of the largest pass, and rows on their way between stages
  int64_t workspace = 0;    // of the inside of ops
  int64_t data_plane = 0;   // of NCCL: an allowance, since its buffers follow from what joins the GPUs
  int64_t mtp_weights = 0;  // of `weights`

  int64_t Sum(int64_t pages) const { return weights + pages * page + activations + workspace + data_plane; }
};

// Of every rank; settings.cache_pages is not looked at. `threads`: the ranks are threads of one process, so
// weights that several of them hold alike are there once and count for the first. Throws as
// ops::cuda::CheckDevice.
std::vector<RankMemory> MemoryOfRanks(const JobSettings& settings, const checkpoint::Checkpoint& checkpoint,
                                      bool threads);

}  // namespace sluice::engine
