#include "ops/cuda/tensor_map.h"

#include <algorithm>

#include "base/error.h"
#include "ops/cuda/driver.h"

namespace sluice::ops::cuda {
CUtensorMap MapOf(const void* data, DType type, int64_t rows, int64_t cols, int64_t stride, int box_rows) {
  static const auto encode = FindDriver<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  const bool bf16 = type == DType::kBF16;
  SLUICE_CHECK(bf16 || type == DType::kF8E4M3, "tiles of {}", NameOf(type));
  const auto element = static_cast<uint64_t>(SizeOf(type));
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(cols),
                               static_cast<cuuint64_t>(std::max<int64_t>(rows, 1))};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride) * element};
  const cuuint32_t box[2] = {static_cast<cuuint32_t>(128 / element), static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  CUtensorMap map{};
  const CUresult result = encode(
      &map, bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_UINT8, 2,
      const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SLUICE_CHECK(result == CUDA_SUCCESS,
               "a tensor map of {} [{}, {}] with stride {} is refused with CUDA error {}", NameOf(type), rows,
               cols, stride, static_cast<int>(result));
  return map;
}

}  // namespace sluice::ops::cuda
