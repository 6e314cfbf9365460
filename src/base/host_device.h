#pragma once

// Marks a function that both compilers build: for hosts, and by nvcc also for GPUs. Such a function uses no
// library, so that it gives the same bits on both sides; products that a compiler could fuse with a sum go
// through Product.
#ifdef __CUDACC__
#define SLUICE_HOST_DEVICE __host__ __device__
#else
#define SLUICE_HOST_DEVICE
#endif

namespace sluice {

// a * b, rounded: hosts are compiled with -ffp-contract=off, nvcc fuses what it is not told to leave alone.
SLUICE_HOST_DEVICE inline double Product(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

}  // namespace sluice
