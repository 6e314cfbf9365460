#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "ops/ops.h"
#include "tensor/tensor.h"

// Small helpers of the reference ops: rows of doubles, rotations, quantised blocks, cached rows.
namespace sluice::ops::reference {

using Row = std::vector<double>;

inline Row LoadRow(const Tensor& tensor, int64_t row) {
  Row values(tensor.cols);
  for (int64_t i = 0; i < tensor.cols; ++i) values[i] = LoadFloat(tensor, row, i);
  return values;
}
inline void StoreRow(const Tensor& tensor, int64_t row, std::span<const double> values) {
  for (int64_t i = 0; i < tensor.cols; ++i) StoreFloat(tensor, row, i, static_cast<float>(values[i]));
}

// The value after rounding to bf16 in kFp8, to fp32 in kExact.
inline double Rounded(Numerics numerics, double value) {
  const auto single = static_cast<float>(value);
  return numerics == Numerics::kFp8 ? RoundToBF16(single) : single;
}

// Rotates the `n` pairs of `x` by the angles whose cosines and sines are row `row` of `angles` [T, 2 n].
inline void Rotate(std::span<double> x, const Tensor& angles, int64_t row, bool interleaved) {
  const int64_t n = angles.cols / 2;
  for (int64_t i = 0; i < n; ++i) {
    const double cosine = angles.At<float>(row, i);
    const double sine = angles.At<float>(row, n + i);
    double& a = x[interleaved ? 2 * i : i];
    double& b = x[interleaved ? 2 * i + 1 : i + n];
    const double rotated_a = a * cosine - b * sine;
    b = a * sine + b * cosine;
    a = rotated_a;
  }
}

// x becomes its e4m3 codes' values (unscaled); returns the block's power-of-two scale.
inline float QuantizeBlock(std::span<double> x) {
  double amax = 0.0;
  for (const double value : x) amax = std::fmax(amax, std::fabs(value));
  const float scale = PowerOfTwoScale(static_cast<float>(amax));
  for (double& value : x) value = ToFloat(ToF8E4M3(static_cast<float>(value / scale)));
  return scale;
}

// Orthonormal Walsh-Hadamard transform in Sylvester order; x.size() is a power of two.
inline void Hadamard(std::span<double> x) {
  for (size_t half = 1; half < x.size(); half *= 2) {
    for (size_t block = 0; block < x.size(); block += 2 * half) {
      for (size_t i = block; i < block + half; ++i) {
        const double a = x[i];
        const double b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
  for (double& value : x) value /= std::sqrt(static_cast<double>(x.size()));
}

// Where position `position` of a sequence lies in a layer's cache.
inline std::byte* PageOf(const PagedCache& cache, PageTable pages, int64_t position, int64_t row_bytes) {
  return cache.base + static_cast<int64_t>(pages[position / kPageTokens]) * kPageTokens * row_bytes;
}

// The cached key at `position`: latent | rope, dequantised; in kFp8 each value rounded to bf16.
Row ReadLatent(const AttentionShape& shape, const PagedCache& cache, PageTable pages, int64_t position);
// The cached index key at `position`, unscaled, and its scale (1 in kF32).
Row ReadIndexKey(int64_t dim, const PagedCache& cache, PageTable pages, int64_t position, float* scale);

}  // namespace sluice::ops::reference
