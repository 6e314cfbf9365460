#include "tensor/tensor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace sluice {

float LoadFloat(const Tensor& tensor, int64_t row, int64_t col) {
  switch (tensor.dtype) {
    case DType::kF32:
      return tensor.At<float>(row, col);
    case DType::kBF16:
      return ToFloat(tensor.At<BF16>(row, col));
    case DType::kF16:
      return HalfToFloat(tensor.At<uint16_t>(row, col));
    case DType::kF8E4M3:
      return ToFloat(tensor.At<F8E4M3>(row, col));
    default:
      Fail(ErrorKind::kInternal, "a tensor of {} has no float elements", NameOf(tensor.dtype));
  }
}

void StoreFloat(const Tensor& tensor, int64_t row, int64_t col, float value) {
  if (tensor.dtype == DType::kF32) {
    tensor.At<float>(row, col) = value;
  } else {
    SLUICE_CHECK(tensor.dtype == DType::kBF16);
    tensor.At<BF16>(row, col) = ToBF16(value);
  }
}

Buffer::Buffer(int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* memory = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    Fail(ErrorKind::kMemory, "the system refused {} bytes of memory: {}", bytes, std::strerror(errno));
  }
  memory_ = {static_cast<std::byte*>(memory), Unmap{bytes}};
}

void Buffer::Unmap::operator()(std::byte* memory) const { munmap(memory, static_cast<size_t>(bytes)); }

std::byte* Arena::Allocate(int64_t bytes) {
  constexpr int64_t kAlignment = 64;
  constexpr int64_t kBlockBytes = 1 << 20;
  bytes = (std::max<int64_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes()) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    blocks_.emplace_back(std::max(bytes, kBlockBytes));
    used_ = 0;
  }
  std::byte* memory = blocks_[block_].data() + used_;
  used_ += bytes;
  total_ += bytes;
  peak_ = std::max(peak_, total_);
  return memory;
}

void Arena::Reset() {
  block_ = 0;
  used_ = 0;
  total_ = 0;
}

}  // namespace sluice
