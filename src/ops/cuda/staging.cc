#include "ops/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "ops/cuda/check.h"

namespace sluice::ops::cuda {
namespace {

constexpr int64_t kLeastBytes = int64_t{16} << 20;

}  // namespace

Staging::~Staging() {
  cudaStreamSynchronize(stream_);
  cudaFreeHost(pinned_);
}

int64_t Staging::SizeFor(int64_t bytes) {
  return std::max(kLeastBytes, CeilDiv(bytes, kLeastBytes) * kLeastBytes);
}

void Staging::Fix(int64_t size) {
  if (size > device_.bytes()) Grow(size);
  fixed_ = true;
}

void Staging::Reserve(int64_t bytes, int lists) {
  bytes += lists * kAlignment;
  if (used_ + bytes <= device_.bytes()) return;
  stream_.Finish();
  used_ = 0;
  if (bytes <= device_.bytes()) return;
  if (fixed_) {
    Fail(ErrorKind::kInternal, "the lists of an op take {} bytes, and {} were reserved", bytes,
         device_.bytes());
  }
  Grow(SizeFor(bytes));
}

void Staging::Grow(int64_t size) {
  cudaFreeHost(pinned_);
  pinned_ = nullptr;
  device_ = Buffer();
  device_ = Buffer(size, memory_);
  void* pinned = nullptr;
  Check(cudaHostAlloc(&pinned, static_cast<size_t>(size), cudaHostAllocDefault), "pinning {} bytes", size);
  pinned_ = static_cast<std::byte*>(pinned);
}

std::byte* Staging::PutBytes(std::span<const std::byte> bytes) {
  std::byte* to = device_.data() + used_;
  PutAt(bytes, to);
  return to;
}

void Staging::PutAt(std::span<const std::byte> bytes, std::byte* to) {
  const auto size = static_cast<int64_t>(bytes.size());
  SLUICE_CHECK(used_ + size <= device_.bytes(), "{} bytes were not reserved", size);
  if (size > 0) {
    std::memcpy(pinned_ + used_, bytes.data(), bytes.size());
    Check(cudaMemcpyAsync(to, pinned_ + used_, bytes.size(), cudaMemcpyHostToDevice, stream_),
          "a list of {} bytes", size);
    ++copies_;
  }
  used_ += CeilDiv(size, kAlignment) * kAlignment;
}

}  // namespace sluice::ops::cuda
