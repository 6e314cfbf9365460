#include "doctor/gpu.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <fstream>

namespace sluice::doctor {
namespace {

// A library of this process from now on, if it is there.
class Library {
 public:
  explicit Library(const char* name) : handle_(dlopen(name, RTLD_NOW | RTLD_LOCAL)) {}
  bool there() const { return handle_ != nullptr; }
  // Null where it has no such function.
  template <typename Function>
  Function* Find(const char* name) const {
    return reinterpret_cast<Function*>(dlsym(handle_, name));
  }

 private:
  void* handle_;
};

// CUDA's driver interface and NCCL's return 0 for success.
using ReadsInt = int(int*);
using Starts = int(unsigned);

void ReadCuda(GpuSystem& system) {
  const Library cuda("libcuda.so.1");
  system.has_cuda = cuda.there();
  if (!system.has_cuda) return;
  auto* start = cuda.Find<Starts>("cuInit");
  auto* version = cuda.Find<ReadsInt>("cuDriverGetVersion");
  auto* count = cuda.Find<ReadsInt>("cuDeviceGetCount");
  if (start == nullptr || version == nullptr || count == nullptr) {
    system.cuda_error = "libcuda.so.1 is not CUDA's";
    return;
  }
  if (version(&system.cuda_version) != 0) system.cuda_version = 0;
  if (const int error = start(0); error != 0) {
    system.cuda_error = fmt::format("cuInit gives error {}", error);
  } else if (const int count_error = count(&system.devices); count_error != 0) {
    system.cuda_error = fmt::format("cuDeviceGetCount gives error {}", count_error);
  }
}

void ReadNccl(GpuSystem& system) {
  const Library nccl("libnccl.so.2");
  system.has_nccl = nccl.there();
  if (!system.has_nccl) return;
  auto* version = nccl.Find<ReadsInt>("ncclGetVersion");
  if (version == nullptr || version(&system.nccl_version) != 0) system.nccl_version = 0;
}

}  // namespace

GpuSystem ReadGpus() {
  GpuSystem system;
  std::ifstream driver("/proc/driver/nvidia/version");
  std::getline(driver, system.kernel_driver);
  ReadCuda(system);
  ReadNccl(system);
  return system;
}

Findings JudgeGpus(const GpuSystem& system) {
  Findings findings;
  const bool driver = !system.kernel_driver.empty();
  findings.push_back(Ok("NVIDIA driver", driver ? system.kernel_driver : "not loaded, CPU ranks only"));
  const std::string version =
      fmt::format("{}.{}", system.cuda_version / 1000, system.cuda_version % 1000 / 10);
  if (!system.has_cuda && driver) {
    findings.push_back(Warn("CUDA", "the driver is loaded and libcuda.so.1 is not found",
                            "install the driver's user libraries, or start the container with the GPUs"));
  } else if (!system.has_cuda) {
    findings.push_back(Ok("CUDA", "no libcuda.so.1, CPU ranks only"));
  } else if (!system.cuda_error.empty() && driver) {
    findings.push_back(
        Warn("CUDA", fmt::format("{}, {}", version, system.cuda_error),
             "kernel module and libcuda.so.1 must be of one version, and the devices visible: see "
             "nvidia-smi"));
  } else if (!system.cuda_error.empty()) {
    findings.push_back(Ok("CUDA", fmt::format("{}, without a driver: CPU ranks only", version)));
  } else {
    findings.push_back(
        Ok("CUDA", fmt::format("{}, {} device{}", version, system.devices, system.devices == 1 ? "" : "s")));
  }
  if (system.has_nccl) {
    const int nccl = system.nccl_version;
    findings.push_back(Ok("NCCL", nccl == 0
                                      ? "of unknown version"
                                      : fmt::format("{}.{}.{}", nccl / 10000, nccl / 100 % 100, nccl % 100)));
  } else if (system.devices > 1) {
    findings.push_back(
        Warn("NCCL", "no libnccl.so.2", "ranks on several GPUs talk through it: install libnccl2"));
  } else {
    findings.push_back(Ok("NCCL", "no libnccl.so.2, and no GPUs that need it"));
  }
  return findings;
}

}  // namespace sluice::doctor
