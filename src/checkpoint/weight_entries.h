#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace sluice::checkpoint {

// The elements of a tensor that are not 0, in no order, each place at most once. A vector is a matrix of one
// row.
struct WeightEntry {
  int64_t row = 0;
  int64_t col = 0;
  float value = 0.0F;
};

// Writes a matrix of rows x cols that is 0 but for the entries, rounded to nearest even: F32, BF16, or
// F8_E4M3 with a power-of-two scale per 128 x 128 block. `data` [rows, cols] or `scales` [ceil(rows / 128),
// ceil(cols / 128)] may be null.
void FillEntries(std::span<const WeightEntry> entries, int64_t rows, int64_t cols, DType dtype,
                 std::byte* data, float* scales);

}  // namespace sluice::checkpoint
