#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/rank_memory.h"
#include "ops/cuda/device.h"

namespace sluice::cli {

// What the memory of a GPU is used for by the ranks that share it.
struct GpuMemoryPlan {
  int gpu = 0;
  ops::cuda::MemoryInfo before;  // what the driver said before anything was allocated
  std::vector<engine::RankMemory> ranks;
  double fraction = 0.0;  // --mem-fraction-static; 0: the pages are given
  int64_t pages = 0;      // of 64 tokens, on every rank

  // In use before: the CUDA context of this process, and what others hold.
  int64_t context_bytes() const { return before.total_bytes - before.free_bytes; }
  // What the ranks take, all together, until they are ready.
  int64_t planned_bytes() const;
  int64_t free_bytes() const { return before.free_bytes - planned_bytes(); }
  // In GiB, line by line: weights, cache, activations and workspace for each rank and for the card; context;
  // free; what the driver reports.
  std::string Table() const;
};

// With `fraction` as many pages as fit into
//
//   fraction x total - in use before - (weights + activations + workspace of all ranks)
//
// and otherwise `pages`. Throws Error(kMemory), a sentence and the table, when that is not a page or is more
// than the GPU has free.
GpuMemoryPlan PlanGpuMemory(int gpu, const ops::cuda::MemoryInfo& before,
                            std::vector<engine::RankMemory> ranks, double fraction, int64_t pages);

}  // namespace sluice::cli
