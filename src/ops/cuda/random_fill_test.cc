#include "ops/cuda/random_fill.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/compute_pool.h"
#include "ops/cuda/on_device.h"

namespace sluice::ops::cuda {
namespace {

constexpr uint8_t kGuard = 0xa5;

RandomMatrix Whole(DType dtype, int64_t rows, int64_t cols, double spread, double center = 0.0) {
  return {TensorKey(static_cast<uint64_t>(rows), "w"), center, spread, rows, cols, dtype, 0, rows, 0, cols};
}

// Every byte is the host's, and none beside the part is touched. `pad` elements lie between rows.
void ExpectEqualsHost(const RandomMatrix& m, int64_t pad = 0) {
  const int64_t size = SizeOf(m.dtype);
  const int64_t stride = m.cols + pad;
  const int64_t blocks = CeilDiv(m.cols, kRandomBlock);
  ComputePool pool(0);
  std::vector<uint8_t> tight(m.rows * m.cols * size);
  std::vector<float> scales(CeilDiv(m.rows, kRandomBlock) * blocks, -1.0F);
  FillRandom(m, pool, tight.data(), scales.data());
  std::vector<uint8_t> data(m.rows * stride * size + 64, kGuard);
  for (int64_t row = 0; row < m.rows; ++row) {
    std::memcpy(&data[row * stride * size], &tight[row * m.cols * size], m.cols * size);
  }
  scales.push_back(-1.0F);

  const OnDevice<uint8_t> made(std::vector<uint8_t>(data.size(), kGuard));
  const OnDevice<float> made_scales(std::vector<float>(scales.size(), -1.0F));
  Must(Enqueue({m, made.data(), stride, made_scales.data(), blocks}, nullptr));
  Must(cudaDeviceSynchronize());
  EXPECT_EQ(made_scales.Get(), scales);
  const std::vector<uint8_t> got = made.Get();
  for (size_t i = 0; i < data.size(); ++i) {
    ASSERT_EQ(got[i], data[i]) << NameOf(m.dtype) << " " << m.rows << " x " << m.cols << " pad " << pad
                               << ", row " << i / size / stride << ", column " << i / size % stride;
  }
}

class RandomFillTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!HasGpu()) GTEST_SKIP() << "there is no GPU";
  }
};

TEST_P(RandomFillTest, MakesTheBitsOfTheHost) {
  for (const auto& [rows, cols] :
       {std::pair{1, 1}, {1, 7168}, {3, 200}, {128, 128}, {576, 7168}, {257, 129}}) {
    ExpectEqualsHost(Whole(GetParam(), rows, cols, std::sqrt(3.0 / cols)));
    ExpectEqualsHost(Whole(GetParam(), rows, cols, std::sqrt(3.0 / cols)), 3);
  }
  ExpectEqualsHost(Whole(GetParam(), 2048, 7168, std::sqrt(3.0 / 7168)), 16);
  ExpectEqualsHost(Whole(GetParam(), 1, 7168, 0.17, 1.0));
  ExpectEqualsHost(Whole(GetParam(), 1, 256, 0.087));
}

TEST_P(RandomFillTest, MakesPartsAsTheHostDoes) {
  const RandomMatrix whole = Whole(GetParam(), 700, 500, 0.1);
  ExpectEqualsHost(whole.RowRange(128, 256));
  ExpectEqualsHost(whole.RowRange(640, 60), 5);
  ExpectEqualsHost(whole.ColRange(256, 244));
  ExpectEqualsHost(whole.RowRange(256, 77).ColRange(128, 99));
  // So little of a block that its own largest magnitude would give another scale.
  for (int64_t begin = 0; begin < 500; begin += 128) {
    ExpectEqualsHost(whole.RowRange(begin, 1).ColRange(begin, 2));
  }
  // An element number beyond 32 bits.
  ExpectEqualsHost(Whole(GetParam(), int64_t{1} << 20, 18432, 0.1).RowRange((1 << 20) - 256, 256));
}

TEST_P(RandomFillTest, MakesEveryMagnitude) {
  for (int exponent = -20; exponent <= 16; ++exponent) {
    ExpectEqualsHost(Whole(GetParam(), 128, 128, std::ldexp(0.9, exponent)));
  }
}

INSTANTIATE_TEST_SUITE_P(RandomFill, RandomFillTest,
                         ::testing::Values(DType::kF32, DType::kBF16, DType::kF8E4M3),
                         [](const auto& tested) { return std::string(NameOf(tested.param)); });

TEST(RandomFill, RefusesWhatItDoesNotMake) {
  if (!HasGpu()) GTEST_SKIP() << "there is no GPU";
  const RandomMatrix fp8 = Whole(DType::kF8E4M3, 256, 256, 0.1);
  EXPECT_EQ(Enqueue({fp8.RowRange(64, 64), nullptr, 256, nullptr, 2}, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(Enqueue({Whole(DType::kI32, 2, 2, 0.1), nullptr, 2, nullptr, 1}, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace sluice::ops::cuda
