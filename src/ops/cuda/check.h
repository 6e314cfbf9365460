#pragma once

#include <cuda_runtime.h>

#include <string>
#include <utility>

#include "base/error.h"

namespace sluice::ops::cuda {

// Throws Error(kInternal) with what CUDA says of `what`, an op and its shapes as fmt has them.
template <typename... Args>
void Check(cudaError_t error, fmt::format_string<Args...> what, Args&&... args) {
  if (error == cudaSuccess) return;
  Fail(ErrorKind::kInternal, "the GPU failed in {}: {} ({})", fmt::format(what, std::forward<Args>(args)...),
       cudaGetErrorString(error), cudaGetErrorName(error));
}

}  // namespace sluice::ops::cuda
