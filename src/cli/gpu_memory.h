#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/rank_memory.h"
#include "ops/cuda/device.h"

namespace sluice::cli {

// What a process with our kernels takes of a GPU before it has allocated anything (seen: 0.51 GiB).
inline constexpr int64_t kContextBytes = int64_t{544} << 20;

// What the memory of a GPU is used for by the ranks that share it.
struct GpuMemoryPlan {
  int gpu = 0;
  ops::cuda::MemoryInfo before;  // what the driver said before anything was allocated
  std::vector<engine::RankMemory> ranks;
  double fraction = 0.0;  // --mem-fraction-static; 0: the pages are given
  int64_t pages = 0;      // of 64 tokens, on every rank
  int first_rank = 0;     // of those that share it
  int more_contexts = 0;  // CUDA contexts of processes that are still to start, beside the one that asked

  // CUDA contexts, and what others hold.
  int64_t context_bytes() const {
    return before.total_bytes - before.free_bytes + more_contexts * kContextBytes;
  }
  // What the ranks take, all together, until they are ready.
  int64_t planned_bytes() const;
  int64_t free_bytes() const { return before.total_bytes - context_bytes() - planned_bytes(); }
  // In GiB, line by line: weights, cache, activations and workspace for each rank and for the card; context;
  // free; what the driver reports.
  std::string Table() const;
};

// The same of GPUs that have a rank each, one column for each of them; of a single plan its Table.
std::string TableOf(const std::vector<GpuMemoryPlan>& plans);

// With `fraction` as many pages as fit into
//
//   fraction x total - in use before - (weights + activations + workspace of all ranks)
//
// and otherwise `pages`. Throws Error(kMemory), a sentence and the table, when that is not a page or is more
// than the GPU has free.
GpuMemoryPlan PlanGpuMemory(int gpu, const ops::cuda::MemoryInfo& before,
                            std::vector<engine::RankMemory> ranks, double fraction, int64_t pages,
                            int first_rank = 0, int more_contexts = 0);

// A GPU of this host, and what the driver said of it before anything was allocated.
struct HostGpu {
  int gpu = 0;
  ops::cuda::MemoryInfo before;
};

// Of a job of `nodes` hosts with as many GPUs each, whose ranks (`ranks`, all of them) are shared out evenly,
// in order: the plans of host `node`, with the pages that every GPU of the job can hold. Other hosts' GPUs
// are taken for like the one at their place here; with several hosts what is in use is rounded up to whole
// GiB, so that hosts of one kind come to one number of pages. `processes`: each rank has a context of its
// own. Throws as PlanGpuMemory.
std::vector<GpuMemoryPlan> PlanHostGpus(const std::vector<HostGpu>& gpus,
                                        const std::vector<engine::RankMemory>& ranks, int nodes, int node,
                                        bool processes, double fraction, int64_t pages);

}  // namespace sluice::cli
