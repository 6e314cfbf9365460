#include "tensor/random_matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "base/checked.h"
#include "base/compute_pool.h"
#include "base/error.h"

namespace sluice {
namespace {

// What a matrix is, element by element, from the definitions alone.
float ScaleOf(const RandomMatrix& whole, int64_t row, int64_t col) {
  const int64_t first_row = row / kRandomBlock * kRandomBlock;
  const int64_t first_col = col / kRandomBlock * kRandomBlock;
  float amax = 0.0F;
  for (int64_t r = first_row; r < std::min(first_row + kRandomBlock, whole.all_rows); ++r) {
    for (int64_t c = first_col; c < std::min(first_col + kRandomBlock, whole.all_cols); ++c) {
      amax = std::max(amax, std::fabs(whole.At(r, c)));
    }
  }
  return PowerOfTwoScale(amax);
}

RandomMatrix Whole(int64_t rows, int64_t cols, DType dtype, double spread, double center = 0.0) {
  return {TensorKey(7, "a"), center, spread, rows, cols, dtype, 0, rows, 0, cols};
}

void ExpectIsItself(const RandomMatrix& part) {
  RandomMatrix whole = part;
  whole.row_begin = whole.col_begin = 0;
  whole.rows = part.all_rows;
  whole.cols = part.all_cols;
  const int64_t blocks = CeilDiv(part.cols, kRandomBlock);
  std::vector<uint8_t> data(part.rows * part.cols * SizeOf(part.dtype), 0xee);
  std::vector<float> scales(CeilDiv(part.rows, kRandomBlock) * blocks);
  ComputePool pool(2);
  FillRandom(part, pool, data.data(), scales.data());
  for (int64_t row = 0; row < part.rows; ++row) {
    for (int64_t col = 0; col < part.cols; ++col) {
      const int64_t i = row * part.cols + col;
      const float value = whole.At(part.row_begin + row, part.col_begin + col);
      if (part.dtype == DType::kF32) {
        ASSERT_EQ(reinterpret_cast<const uint32_t*>(data.data())[i], std::bit_cast<uint32_t>(value)) << i;
      } else if (part.dtype == DType::kBF16) {
        ASSERT_EQ(reinterpret_cast<const uint16_t*>(data.data())[i], ToBF16(value).bits) << i;
      } else {
        const float scale = scales[row / kRandomBlock * blocks + col / kRandomBlock];
        ASSERT_EQ(data[i], ToF8E4M3(value / scale).bits) << row << " " << col << " " << value;
        if (row % 64 == 0 && col % 64 == 0) {
          ASSERT_EQ(scale, ScaleOf(whole, part.row_begin + row, part.col_begin + col)) << row << " " << col;
        }
      }
    }
  }
}

TEST(RandomMatrix, EveryElementIsItsDefinition) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    for (const auto& [rows, cols] : {std::pair{1, 1}, {3, 200}, {128, 128}, {576, 200}, {257, 129}}) {
      ExpectIsItself(Whole(rows, cols, dtype, std::sqrt(3.0 / cols)));
    }
    ExpectIsItself(Whole(1, 1000, dtype, 0.17, 1.0));
  }
}

// Also those that end inside a scale block of the whole matrix.
TEST(RandomMatrix, APartIsThatOfTheWhole) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    const RandomMatrix whole = Whole(700, 500, dtype, 0.1);
    ExpectIsItself(whole.RowRange(128, 256));
    ExpectIsItself(whole.RowRange(640, 60));
    ExpectIsItself(whole.ColRange(256, 244));
    ExpectIsItself(whole.RowRange(256, 77).ColRange(128, 99));
    ExpectIsItself(whole.RowRange(128, 300).RowRange(128, 130));
    // So little of a block that its own largest magnitude would give another scale.
    for (int64_t begin = 0; begin < 500; begin += 128) {
      ExpectIsItself(whole.RowRange(begin, 1).ColRange(begin, 2));
    }
  }
}

// Scales from far below the smallest normal e4m3 value to the floor of 1e-4, and codes of every kind.
TEST(RandomMatrix, CodesAreRightAtEveryMagnitude) {
  for (int exponent = -20; exponent <= 12; ++exponent) {
    for (const double fraction : {1.0, 0.8749999, 0.874, 1.24}) {
      ExpectIsItself(Whole(128, 128, DType::kF8E4M3, std::ldexp(fraction, exponent)));
    }
  }
  const RandomMatrix matrix = Whole(1280, 1280, DType::kF8E4M3, 1.0);
  std::vector<uint8_t> codes(1280 * 1280);
  ComputePool pool(0);
  FillRandom(matrix, pool, codes.data(), nullptr);
  std::vector<bool> seen(256);
  for (const uint8_t code : codes) seen[code] = true;
  for (int code = 0; code <= 0x78; ++code) {  // up to 256; the scale makes the largest 255.99
    EXPECT_TRUE(seen[code] && seen[code | 0x80]) << code;
  }
}

TEST(RandomMatrix, RefusesAPartThatIsNone) {
  ComputePool pool(0);
  std::vector<uint8_t> data(1 << 16);
  EXPECT_THROW(FillRandom(Whole(8, 8, DType::kF32, 1.0).RowRange(4, 5), pool, data.data(), nullptr), Error);
  EXPECT_THROW(FillRandom(Whole(200, 8, DType::kF8E4M3, 1.0).RowRange(64, 64), pool, data.data(), nullptr),
               Error);
}

}  // namespace
}  // namespace sluice
