#include <array>
#include <cstring>
#include <memory>
#include <mutex>

#include "ops/cuda/check.h"
#include "ops/cuda/device.h"

namespace sluice::ops::cuda {
namespace {

constexpr int kMostDevices = 64;

class Pinned final : public Memory {
 public:
  explicit Pinned(int device) : device_(device) {}
  bool OnHost() const override { return true; }

  std::byte* Allocate(int64_t bytes) override {
    Check(cudaSetDevice(device_), "choosing GPU {}", device_);
    void* memory = nullptr;
    if (const cudaError_t error = cudaHostAlloc(&memory, static_cast<size_t>(bytes), cudaHostAllocPortable);
        error != cudaSuccess) {
      cudaGetLastError();
      Fail(
          ErrorKind::kMemory,
          "the system refused {:.2f} GiB of pinned host memory for what GPU {} sends and receives ({}): free "
          "memory of the host, raise the limit on locked memory, or use a smaller --chunked-prefill-size",
          static_cast<double>(bytes) / (1 << 30), device_, cudaGetErrorString(error));
    }
    std::memset(memory, 0, static_cast<size_t>(bytes));
    return static_cast<std::byte*>(memory);
  }
  void Free(std::byte* memory, int64_t) noexcept override { cudaFreeHost(memory); }
  void Copy(const void* from, void* to, int64_t bytes) override {
    std::memmove(to, from, static_cast<size_t>(bytes));
  }

 private:
  const int device_;
};

}  // namespace

Memory& PinnedMemory(int device) {
  static std::mutex mutex;
  // Never destroyed, as those of devices.
  static auto* memories = new std::array<std::unique_ptr<Pinned>, kMostDevices>;
  CheckDevice(device);
  std::lock_guard lock(mutex);
  auto& memory = (*memories)[static_cast<size_t>(device)];
  if (memory == nullptr) memory = std::make_unique<Pinned>(device);
  return *memory;
}

}  // namespace sluice::ops::cuda
