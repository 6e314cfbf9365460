#pragma once

#include <string>

#include "doctor/finding.h"

// GPUs and what drives them, found at run time: this build needs no CUDA toolkit.
namespace sluice::doctor {

struct GpuSystem {
  std::string kernel_driver;  // NVIDIA's kernel module in its own words; empty: not loaded
  bool has_cuda = false;      // libcuda.so.1 is there
  std::string cuda_error;     // why it gives no devices; empty: it does
  int cuda_version = 0;       // 12040 is 12.4
  int devices = 0;
  bool has_nccl = false;  // libnccl.so.2 is there
  int nccl_version = 0;   // 22803 is 2.28.3; 0: it does not say
};

// Loads the libraries that are there, and starts CUDA to count devices.
GpuSystem ReadGpus();
Findings JudgeGpus(const GpuSystem& system);

}  // namespace sluice::doctor
