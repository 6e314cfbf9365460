#include "ops/cuda/held_sm.h"

#include <memory>
#include <vector>

#include "ops/cuda/check.h"
#include "ops/cuda/device.h"

namespace sluice::ops::cuda {

HeldSm::HeldSm() {
  Check(cudaGetDevice(&device_), "asking for the device");
  void* words = nullptr;
  Check(cudaHostAlloc(&words, sizeof(HeldSmWords), cudaHostAllocMapped), "pinning words of a held SM");
  words_ = new (words) HeldSmWords;
  // Released already: the kernel's code is loaded now, which later might wait for work under way.
  Check(LaunchHold(static_cast<HeldSmWords*>(words), ticket_, kLongestNs, stream_), "holding an SM");
  Check(cudaStreamSynchronize(stream_), "holding an SM");
}

HeldSm::~HeldSm() {
  words_->released = ticket_;
  cudaStreamSynchronize(stream_);
  cudaFreeHost(const_cast<HeldSmWords*>(words_));
}

void HeldSm::Begin() {
  std::lock_guard lock(mutex_);
  if (wanted_++ > 0) return;
  ++ticket_;
  Check(cudaSetDevice(device_), "choosing GPU {}", device_);
  Check(LaunchHold(const_cast<HeldSmWords*>(words_), ticket_, kLongestNs, stream_), "holding an SM");
}

void HeldSm::End() {
  std::lock_guard lock(mutex_);
  if (--wanted_ == 0) words_->released = ticket_;
}

bool HeldSm::Occupied() const { return words_->begun != words_->ended; }

std::function<std::shared_ptr<void>(int)> MakeSmHolder(int device, int holders) {
  CheckDevice(device);
  Check(cudaSetDevice(device), "choosing GPU {}", device);
  auto held = std::make_shared<std::vector<std::unique_ptr<HeldSm>>>();
  for (int holder = 0; holder < holders; ++holder) held->push_back(std::make_unique<HeldSm>());
  return [held](int holder) {
    HeldSm* mine = held->at(static_cast<size_t>(holder)).get();
    mine->Begin();
    return std::shared_ptr<void>(mine, [held](void* sm) { static_cast<HeldSm*>(sm)->End(); });
  };
}

}  // namespace sluice::ops::cuda
