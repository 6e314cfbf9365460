#pragma once

#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "gpu_run.h"
#include "ops/cuda/back_end.h"

namespace sluice::gpu {

// What `ask` says of the GPU back end of each rank, appended to `facts` by rank when all of the run's prompts
// are answered; `facts` outlives the run.
template <typename Ask>
void AskBackEnds(GpuRun& run, const Ask& ask,
                 std::vector<std::invoke_result_t<Ask, ops::cuda::CudaOps&>>& facts) {
  const auto back_ends =
      std::make_shared<std::vector<ops::cuda::CudaOps*>>(static_cast<size_t>(run.stages * run.lanes));
  run.probes.wrap_ops = [back_ends](int rank, std::unique_ptr<ops::Ops> ops) {
    back_ends->at(static_cast<size_t>(rank)) = dynamic_cast<ops::cuda::CudaOps*>(ops.get());
    return ops;
  };
  run.before_end = [back_ends, ask, &facts] {
    for (ops::cuda::CudaOps* back_end : *back_ends) facts.push_back(ask(*back_end));
  };
}

}  // namespace sluice::gpu
