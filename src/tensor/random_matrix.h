#pragma once

#include <cstdint>

#include "tensor/counter_random.h"
#include "tensor/dtype.h"

// A matrix that is stored nowhere: what it is made from, where it is wanted. FillRandom makes it on the host,
// ops/cuda/random_fill.h in device memory, with the same bits.
namespace sluice {

class ComputePool;

inline constexpr int64_t kRandomBlock = 128;  // an F8_E4M3 scale covers 128 x 128 elements

// Rows [row_begin, row_begin + rows) and columns [col_begin, col_begin + cols) of a matrix of
// all_rows x all_cols. Its element (r, c) is RandomValue(key, r * all_cols + c, center, spread), rounded to
// nearest even; as F8_E4M3 after division by the power-of-two scale of its 128 x 128 block of the whole
// matrix.
struct RandomMatrix {
  uint64_t key = 0;
  double center = 0.0;
  double spread = 0.0;
  int64_t all_rows = 0;
  int64_t all_cols = 0;
  DType dtype = DType::kF32;  // F32, BF16 or F8_E4M3
  int64_t row_begin = 0;      // F8_E4M3: a multiple of 128
  int64_t rows = 0;
  int64_t col_begin = 0;  // F8_E4M3: a multiple of 128
  int64_t cols = 0;

  // The value before rounding of the part's element (row, col).
  SLUICE_HOST_DEVICE float At(int64_t row, int64_t col) const {
    const int64_t index = (row_begin + row) * all_cols + col_begin + col;
    return RandomValue(key, static_cast<uint64_t>(index), center, spread);
  }
  // The part [begin, begin + count) of this part's rows or columns.
  RandomMatrix RowRange(int64_t begin, int64_t count) const {
    RandomMatrix part = *this;
    part.row_begin += begin;
    part.rows = count;
    return part;
  }
  RandomMatrix ColRange(int64_t begin, int64_t count) const {
    RandomMatrix part = *this;
    part.col_begin += begin;
    part.cols = count;
    return part;
  }
};

// Fills data [rows, cols], row-major, and for F8_E4M3 scales [ceil(rows / 128), ceil(cols / 128)]; either may
// be null.
void FillRandom(const RandomMatrix& matrix, ComputePool& pool, void* data, float* scales);

}  // namespace sluice
