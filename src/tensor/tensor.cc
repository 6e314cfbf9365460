#include "tensor/tensor.h"

#include <algorithm>

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

Buffer::Buffer(int64_t bytes, Memory& memory) : bytes_(bytes) {
  if (bytes > 0) data_ = {memory.Allocate(bytes), Release{&memory, bytes}};
}

HostCopy::HostCopy(const Tensor& tensor, Memory& memory) : view_(tensor) {
  if (memory.OnHost() || tensor.bytes() == 0) return;
  // One copy from the first element to the last, gaps between rows included.
  const int64_t bytes = ((tensor.rows - 1) * tensor.stride + tensor.cols) * SizeOf(tensor.dtype);
  copy_ = Buffer(bytes);
  memory.Copy(tensor.data, copy_.data(), bytes);
  view_.data = copy_.data();
}

int64_t Arena::Taken(int64_t bytes) {
  constexpr int64_t kAlignment = 256;
  return (std::max<int64_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
}

void Arena::Reserve(int64_t bytes) {
  SLUICE_CHECK(blocks_.empty(), "memory of an arena in use is reserved");
  blocks_.emplace_back(Taken(bytes), memory_);
  reserved_ = true;
}

std::byte* Arena::Allocate(int64_t bytes) {
  constexpr int64_t kBlockBytes = 1 << 20;
  bytes = Taken(bytes);
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes()) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    if (reserved_) {
      Fail(ErrorKind::kInternal,
           "a pass asks for {} bytes of activations beside {} in use, and {} were reserved for the largest",
           bytes, total_, blocks_.front().bytes());
    }
    blocks_.emplace_back(std::max(bytes, kBlockBytes), memory_);
    used_ = 0;
  }
  std::byte* memory = blocks_[block_].data() + used_;
  used_ += bytes;
  total_ += bytes;
  peak_ = std::max(peak_, total_);
  return memory;
}

void Arena::Reset() {
  // Blocks that a pass added behind those of a smaller one leave ends that are too short for most tensors:
  // one of all that was ever in use takes their place. Not on a device, where others may still work in them.
  if (blocks_.size() > 1 && memory_.OnHost()) {
    blocks_.clear();
    blocks_.emplace_back(peak_, memory_);
  }
  block_ = 0;
  used_ = 0;
  total_ = 0;
}

}  // namespace sluice
