#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include "base/error.h"

namespace sluice::ops::cuda {

// A function of the driver by way of the runtime, so that nothing links against the driver's library.
template <typename Function>
Function FindDriver(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
  SLUICE_CHECK(error == cudaSuccess && found == cudaDriverEntryPointSuccess, "the driver has no {}: {}", name,
               cudaGetErrorString(error));
  return reinterpret_cast<Function>(function);
}

}  // namespace sluice::ops::cuda
