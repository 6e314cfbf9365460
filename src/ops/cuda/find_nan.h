#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// The e4m3 codes that are NaN (0x7f, 0xff). The linears' kernels read weights without a look at them.
namespace sluice::ops::cuda {

// Pointers are to device memory.
struct FindNaN {
  const void* codes = nullptr;  // [count] e4m3, aligned to 16 bytes
  int64_t count = 0;
  uint64_t* first = nullptr;  // in: ~0; out: the index of the first NaN, if there is one
};

// cudaErrorInvalidValue for codes that are not aligned.
cudaError_t Enqueue(const FindNaN& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
