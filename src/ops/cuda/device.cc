#include "ops/cuda/device.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>

#include "ops/cuda/check.h"
#include "ops/cuda/sharing.h"
#include "ops/cuda/stream.h"

namespace sluice::ops::cuda {
namespace {

constexpr int kMostDevices = 64;

// What ranks that share a card ask of the driver, which listens once, when the process first calls it.
// Queues: a stream that waits holds up whatever shares its queue, and the driver's own choice is 8. Kernels
// loaded from the start: loading one at its first launch may wait for what is on any stream. The latter is
// this process's alone: one that it starts may have a GPU for itself.
void TellDriver() {
  static const bool told = [] {
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    const bool chosen = std::getenv("CUDA_MODULE_LOADING") != nullptr;
    if (!chosen) setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    int devices = 0;
    cudaGetDeviceCount(&devices);
    if (!chosen) unsetenv("CUDA_MODULE_LOADING");
    return true;
  }();
  static_cast<void>(told);
}

class OfDevice final : public Memory {
 public:
  explicit OfDevice(int device) : device_(device) {}
  bool OnHost() const override { return false; }

  std::byte* Allocate(int64_t bytes) override {
    Use();
    ++allocations_;
    void* memory = nullptr;
    if (const cudaError_t error = cudaMalloc(&memory, static_cast<size_t>(bytes)); error != cudaSuccess) {
      cudaGetLastError();
      const MemoryInfo info = MemoryOf(device_);
      Fail(ErrorKind::kMemory,
           "GPU {} refused {:.2f} GiB of memory ({}): {:.2f} of its {:.2f} GiB are free; use a smaller "
           "--mem-fraction-static or --max-total-tokens, or more ranks",
           device_, InGiB(bytes), cudaGetErrorString(error), InGiB(info.free_bytes), InGiB(info.total_bytes));
    }
    const cudaStream_t stream = OfThread();
    Check(cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), stream), "clearing {} bytes", bytes);
    Check(cudaStreamSynchronize(stream), "clearing {} bytes", bytes);
    return static_cast<std::byte*>(memory);
  }
  void Free(std::byte* memory, int64_t) noexcept override {
    if (!sharing_.IsNamed(memory)) cudaFree(memory);
  }

  void Copy(const void* from, void* to, int64_t bytes) override {
    if (bytes == 0) return;
    Use();
    const cudaStream_t stream = OfThread();
    Check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream),
          "a copy of {} bytes", bytes);
    Check(cudaStreamSynchronize(stream), "a copy of {} bytes", bytes);
  }

  Memory& Landing() override { return PinnedMemory(device_); }
  std::unique_ptr<WorkStream> NewStream() override {
    Use();
    return std::make_unique<Stream>(/*for_copies=*/true);
  }
  DeviceSharing& sharing() { return sharing_; }

  int64_t allocations() const { return allocations_; }

 private:
  static double InGiB(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }
  void Use() const { Check(cudaSetDevice(device_), "choosing GPU {}", device_); }
  // A stream of this thread's own for copies that the host waits for.
  cudaStream_t OfThread() const {
    thread_local std::array<std::unique_ptr<Stream>, kMostDevices> streams;
    auto& mine = streams[static_cast<size_t>(device_)];
    if (mine == nullptr) mine = std::make_unique<Stream>(/*for_copies=*/true);
    return *mine;
  }

  const int device_;
  CudaSharing sharing_{device_};
  std::atomic<int64_t> allocations_ = 0;
};

}  // namespace

int Devices() {
  TellDriver();
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess ? devices : 0;
}

void CheckDevice(int device) {
  TellDriver();
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    Fail(ErrorKind::kUsage, "there is no GPU here that CUDA can use ({}): use --ops cpu, or check the driver",
         error == cudaSuccess ? "none found" : cudaGetErrorString(error));
  }
  if (device < 0 || device >= devices || device >= kMostDevices) {
    Fail(ErrorKind::kUsage, "GPU {} is asked for and this process sees {}: use a number below {}", device,
         devices, devices);
  }
  cudaDeviceProp properties{};
  Check(cudaGetDeviceProperties(&properties, device), "asking what GPU {} is", device);
  if (properties.major != 9 || properties.minor != 0) {
    Fail(
        ErrorKind::kUsage,
        "GPU {} is a {} of compute capability {}.{}, and the kernels are for 9.0 (H100, H200): use --ops cpu",
        device, properties.name, properties.major, properties.minor);
  }
}

namespace {

OfDevice& MemoryOnDevice(int device) {
  static std::mutex mutex;
  // Never destroyed: tensors may outlive main's statics, and the driver frees what a process leaves.
  static auto* memories = new std::array<std::unique_ptr<OfDevice>, kMostDevices>;
  CheckDevice(device);
  std::lock_guard lock(mutex);
  auto& memory = (*memories)[static_cast<size_t>(device)];
  if (memory == nullptr) memory = std::make_unique<OfDevice>(device);
  return *memory;
}

}  // namespace

Memory& DeviceMemory(int device) { return MemoryOnDevice(device); }
DeviceSharing& SharingOf(int device) { return MemoryOnDevice(device).sharing(); }

void LeaveDevice(int device) {
  CheckDevice(device);
  Check(cudaSetDevice(device), "choosing GPU {}", device);
  Check(cudaDeviceReset(), "leaving GPU {}", device);
}

MemoryInfo MemoryOf(int device) {
  CheckDevice(device);
  Check(cudaSetDevice(device), "choosing GPU {}", device);
  size_t free = 0;
  size_t total = 0;
  Check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return {static_cast<int64_t>(free), static_cast<int64_t>(total), MemoryOnDevice(device).allocations()};
}

}  // namespace sluice::ops::cuda
