#include "checkpoint/weight_entries.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/tensor_map.h"

namespace sluice::checkpoint {

void FillEntries(std::span<const WeightEntry> entries, int64_t rows, int64_t cols, DType dtype,
                 std::byte* data, float* scales) {
  const int64_t blocks = CeilDiv(cols, kScaleBlock);
  const auto block_of = [&](const WeightEntry& entry) {
    return entry.row / kScaleBlock * blocks + entry.col / kScaleBlock;
  };
  std::vector<float> block_scales;
  if (dtype == DType::kF8E4M3) {
    block_scales.assign(static_cast<size_t>(CeilDiv(rows, kScaleBlock) * blocks), 0.0F);
    for (const WeightEntry& entry : entries) {
      float& largest = block_scales[block_of(entry)];
      largest = std::max(largest, std::abs(entry.value));
    }
    for (float& scale : block_scales) scale = PowerOfTwoScale(scale);
    if (scales != nullptr) std::ranges::copy(block_scales, scales);
  }
  if (data == nullptr) return;
  std::memset(data, 0, static_cast<size_t>(rows * cols * SizeOf(dtype)));  // zero in each of the formats
  for (const WeightEntry& entry : entries) {
    std::byte* at = data + (entry.row * cols + entry.col) * SizeOf(dtype);
    switch (dtype) {
      case DType::kF32:
        std::memcpy(at, &entry.value, sizeof(float));
        break;
      case DType::kBF16: {
        const BF16 rounded = ToBF16(entry.value);
        std::memcpy(at, &rounded, sizeof(rounded));
        break;
      }
      case DType::kF8E4M3: {
        const F8E4M3 code = ToF8E4M3(entry.value / block_scales[block_of(entry)]);
        std::memcpy(at, &code, sizeof(code));
        break;
      }
      default:
        Fail(ErrorKind::kInternal, "No weight is written as {}.", NameOf(dtype));
    }
  }
}

}  // namespace sluice::checkpoint
