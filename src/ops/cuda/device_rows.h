#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ops/cuda/on_device.h"
#include "tensor/tensor.h"

// Test support for kernels that make rows from rows: inputs and guarded outputs in device memory, and what
// every such op is held to.
namespace sluice::ops::cuda {

using Outputs = std::map<std::string, OwnedTensor>;

inline OwnedTensor Random(std::mt19937_64& random, DType dtype, int64_t rows, int64_t cols, float deviation) {
  OwnedTensor tensor(dtype, rows, cols);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) StoreFloat(tensor, i, j, deviation * normal(random));
  }
  return tensor;
}

// The rows of a host tensor on the device, with `gap` bytes from the end of one to the next.
class Input {
 public:
  explicit Input(const Tensor& rows, int64_t gap = 0)
      : element_(SizeOf(rows.dtype)),
        stride_(rows.cols * element_ + gap),
        bytes_(std::vector<std::byte>(rows.rows * stride_)) {
    std::vector<std::byte> bytes(rows.rows * stride_);
    for (int64_t i = 0; i < rows.rows; ++i) {
      std::memcpy(bytes.data() + i * stride_,
                  static_cast<const std::byte*>(rows.data) + i * rows.stride * element_,
                  rows.cols * element_);
    }
    bytes_.Put(bytes);
  }
  template <typename T = void>
  T* Row(int64_t row) const {
    return reinterpret_cast<T*>(bytes_.data() + row * stride_);
  }
  int64_t stride() const { return stride_ / element_; }

 private:
  int64_t element_, stride_;
  OnDevice<std::byte> bytes_;
};

// Rows to be written: every byte 0xff (a NaN in each of our types, -1 as an integer) until then, `gap` bytes
// from the end of one to the next, and a guard band before and after.
class Output {
 public:
  Output(DType dtype, int64_t rows, int64_t cols, int64_t gap = 0)
      : dtype_(dtype),
        rows_(rows),
        cols_(cols),
        stride_(cols * SizeOf(dtype) + gap),
        bytes_(std::vector<std::byte>(rows * stride_ + 2 * kGuard, kPoison)) {}

  // Rows that an op changes in place.
  Output(const Tensor& before, int64_t gap) : Output(before.dtype, before.rows, before.cols, gap) {
    std::vector<std::byte> bytes = bytes_.Get();
    for (int64_t i = 0; i < rows_; ++i) {
      std::memcpy(bytes.data() + kGuard + i * stride_,
                  static_cast<const std::byte*>(before.data) + i * before.stride * SizeOf(dtype_),
                  cols_ * SizeOf(dtype_));
    }
    bytes_.Put(bytes);
  }

  template <typename T = void>
  T* data() const {
    return reinterpret_cast<T*>(bytes_.data() + kGuard);
  }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t stride() const { return stride_ / SizeOf(dtype_); }
  int64_t stride_bytes() const { return stride_; }

  // What was written. Guard bands and gaps must be as they were.
  OwnedTensor Get() const {
    Must(cudaDeviceSynchronize());
    const std::vector<std::byte> bytes = bytes_.Get();
    OwnedTensor result(dtype_, rows_, cols_);
    const int64_t row_bytes = cols_ * SizeOf(dtype_);
    int64_t touched = 0;
    for (int64_t at = 0; at < std::ssize(bytes); ++at) {
      const int64_t inside = at - kGuard;
      const bool row = inside >= 0 && inside < rows_ * stride_ && inside % stride_ < row_bytes;
      if (!row && bytes[at] != kPoison) ++touched;
    }
    EXPECT_EQ(touched, 0) << "bytes outside of the rows were written";
    for (int64_t i = 0; i < rows_; ++i) {
      std::memcpy(result.view().Row<std::byte>(0) + i * row_bytes, bytes.data() + kGuard + i * stride_,
                  row_bytes);
    }
    return result;
  }

 private:
  static constexpr int64_t kGuard = 4096;
  static constexpr std::byte kPoison{0xff};

  DType dtype_;
  int64_t rows_, cols_, stride_;
  OnDevice<std::byte> bytes_;
};

inline double RelativeRms(const Tensor& a, const Tensor& b) {
  double error = 0.0;
  double norm = 0.0;
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.cols; ++j) {
      const auto x = static_cast<double>(LoadFloat(a, i, j));
      const auto y = static_cast<double>(LoadFloat(b, i, j));
      error += (x - y) * (x - y);
      norm += y * y;
    }
  }
  return std::sqrt(error / norm);
}

inline int64_t DifferentBytes(const Tensor& a, const Tensor& b) {
  int64_t different = 0;
  for (int64_t i = 0; i < a.bytes(); ++i) {
    different += static_cast<const std::byte*>(a.data)[i] != static_cast<const std::byte*>(b.data)[i] ? 1 : 0;
  }
  return different;
}

inline void ExpectEqualBits(const Tensor& mine, const Tensor& truth, const std::string& what) {
  ASSERT_EQ(mine.bytes(), truth.bytes()) << what;
  EXPECT_EQ(DifferentBytes(mine, truth), 0) << what << ", of " << truth.bytes() << " bytes";
}

// The bounds of docs/numerics.md for an op against the reference ops; no value was left out.
inline void ExpectClose(const Tensor& mine, const Tensor& truth, const std::string& what) {
  ASSERT_EQ(mine.bytes(), truth.bytes()) << what;
  if (truth.rows == 0) return;
  if (truth.dtype == DType::kI32) return ExpectEqualBits(mine, truth, what);
  if (truth.dtype == DType::kF32 || truth.dtype == DType::kBF16) {
    int64_t not_a_number = 0;
    for (int64_t i = 0; i < mine.rows; ++i) {
      for (int64_t j = 0; j < mine.cols; ++j) not_a_number += std::isnan(LoadFloat(mine, i, j)) ? 1 : 0;
    }
    EXPECT_EQ(not_a_number, 0) << what;
    const double error = RelativeRms(mine, truth);
    EXPECT_LE(error, truth.dtype == DType::kBF16 ? 3e-4 : 1e-6) << what;
    testing::Test::RecordProperty(what, fmt::format("{:.2g}", error));
    return;
  }
  const int64_t different = DifferentBytes(mine, truth);
  EXPECT_LE(static_cast<double>(different), 2e-3 * static_cast<double>(truth.bytes())) << what;
}

inline void ExpectClose(const Outputs& mine, const Outputs& truth, const std::string& what) {
  ASSERT_EQ(mine.size(), truth.size());
  for (const auto& [name, tensor] : truth)
    ExpectClose(mine.at(name), tensor, fmt::format("{} of {}", name, what));
}

// run(first, count) gives the outputs for `count` rows from row `first` on; all of them at once must be close
// to `truth`, and a row alone, among a few and among all has the same bits.
inline void ExpectRowsAreRight(const std::function<Outputs(int64_t first, int64_t count)>& run,
                               const Outputs& truth, int64_t rows, const std::string& what) {
  const Outputs all = run(0, rows);
  ExpectClose(all, truth, what);
  const auto expect_same = [&](int64_t first, int64_t count) {
    for (const auto& [name, tensor] : run(first, count)) {
      ExpectEqualBits(tensor, all.at(name).view().RowRange(first, count),
                      fmt::format("{} of {}, rows {} + {}", name, what, first, count));
    }
  };
  expect_same(0, 0);
  expect_same(rows - 3, 3);
  for (int64_t row = 0; row < rows; row += std::max<int64_t>(1, rows / 130)) expect_same(row, 1);
}

class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasGpu()) GTEST_SKIP() << "there is no GPU";
  }
};

}  // namespace sluice::ops::cuda
