#include "tensor/random_matrix.h"

#include "tensor/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/random_matrix.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include <algorithm>

#include "base/checked.h"
#include "base/compute_pool.h"
#include "base/error.h"
#include "hwy/highway.h"

// Plain loops, which the compiler turns into vectors of each instruction set: every element is the same chain
// of integer and double operations. Comparisons of magnitudes are made on bits, where the order is the same.
HWY_BEFORE_NAMESPACE();
namespace sluice::HWY_NAMESPACE {

constexpr uint32_t kMagnitude = 0x7fffffffU;

// ToF8E4M3(value) without a branch, for |value| <= 448.
HWY_INLINE uint8_t CodeOf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & kMagnitude;
  // From 2^-6 on: three bits of mantissa are kept and the exponent's bias goes from 127 to 7.
  const uint32_t normal = ((magnitude + 0x7ffffU + ((magnitude >> 20) & 1U)) >> 20) - (120U << 3);
  // Below, steps of 2^-9, the distance of neighbours at 2^14.
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14F) - std::bit_cast<uint32_t>(0x1p14F);
  const uint32_t is_normal = magnitude < std::bit_cast<uint32_t>(0x1p-6F) ? 0U : ~0U;
  return static_cast<uint8_t>((normal & is_normal) | (subnormal & ~is_normal) | (bits >> 24 & 0x80U));
}

// Rows [begin, end) of the part, of a dtype without scales.
void FillPlain(const RandomMatrix& matrix, int64_t begin, int64_t end, void* data) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t cols = matrix.cols;
    if (matrix.dtype == DType::kF32) {
      auto* out = static_cast<float*>(data) + row * cols;
      for (int64_t col = 0; col < cols; ++col) out[col] = matrix.At(row, col);
    } else {
      auto* out = static_cast<uint16_t*>(data) + row * cols;
      for (int64_t col = 0; col < cols; ++col) {
        const auto bits = std::bit_cast<uint32_t>(matrix.At(row, col));
        out[col] = static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
      }
    }
  }
}

// The blocks of the part's rows [128 stripe, 128 stripe + 128). A block's scale is that of the whole matrix,
// also where the part ends inside it.
void FillStripe(const RandomMatrix& matrix, int64_t stripe, uint8_t* data, float* scales) {
  const int64_t row = stripe * kRandomBlock;
  const int64_t rows = HWY_MIN(kRandomBlock, matrix.all_rows - matrix.row_begin - row);
  const int64_t rows_here = HWY_MIN(rows, matrix.rows - row);
  const int64_t blocks = CeilDiv(matrix.cols, kRandomBlock);
  HWY_ALIGN float values[kRandomBlock][kRandomBlock];
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t col = block * kRandomBlock;
    const int64_t cols = HWY_MIN(kRandomBlock, matrix.all_cols - matrix.col_begin - col);
    const int64_t cols_here = HWY_MIN(cols, matrix.cols - col);
    uint32_t largest = 0;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) values[r][c] = matrix.At(row + r, col + c);
      for (int64_t c = 0; c < cols; ++c) {
        largest = HWY_MAX(largest, std::bit_cast<uint32_t>(values[r][c]) & kMagnitude);
      }
    }
    const float scale = PowerOfTwoScale(std::bit_cast<float>(largest));
    if (scales != nullptr) scales[stripe * blocks + block] = scale;
    if (data == nullptr) continue;
    const float inverse = 1.0F / scale;  // exact, and so is the product
    for (int64_t r = 0; r < rows_here; ++r) {
      uint8_t* out = data + (row + r) * matrix.cols + col;
      for (int64_t c = 0; c < cols_here; ++c) out[c] = CodeOf(values[r][c] * inverse);
    }
  }
}

}  // namespace sluice::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(FillPlain);
HWY_EXPORT(FillStripe);

void FillRandom(const RandomMatrix& matrix, ComputePool& pool, void* data, float* scales) {
  SLUICE_CHECK(0 <= matrix.row_begin && matrix.row_begin + matrix.rows <= matrix.all_rows &&
                   0 <= matrix.col_begin && matrix.col_begin + matrix.cols <= matrix.all_cols,
               "rows {} + {} of {}, columns {} + {} of {}", matrix.row_begin, matrix.rows, matrix.all_rows,
               matrix.col_begin, matrix.cols, matrix.all_cols);
  const int64_t stripes = CeilDiv(matrix.rows, kRandomBlock);
  if (matrix.dtype == DType::kF8E4M3) {
    SLUICE_CHECK(matrix.row_begin % kRandomBlock == 0 && matrix.col_begin % kRandomBlock == 0,
                 "FP8 is cut at scale blocks");
    pool.ParallelFor(stripes, [&](int64_t stripe) {
      HWY_DYNAMIC_DISPATCH(FillStripe)(matrix, stripe, static_cast<uint8_t*>(data), scales);
    });
    return;
  }
  SLUICE_CHECK(matrix.dtype == DType::kF32 || matrix.dtype == DType::kBF16, "{}", NameOf(matrix.dtype));
  if (data == nullptr) return;
  pool.ParallelFor(stripes, [&](int64_t stripe) {
    const int64_t begin = stripe * kRandomBlock;
    HWY_DYNAMIC_DISPATCH(FillPlain)(matrix, begin, std::min(begin + kRandomBlock, matrix.rows), data);
  });
}

}  // namespace sluice
#endif
