#include "ops/cuda/gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/checked.h"
#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/on_device.h"

namespace sluice::ops::cuda {
namespace {

constexpr int64_t kBlock = 128;
constexpr float kPoison = -12345.0F;
constexpr int kChosen = -1;  // the tile that Enqueue chooses

std::vector<int> ShapesFor(DType type) {
  std::vector<int> shapes;
  for (int shape = 0; shape < kTileShapeCount; ++shape) {
    if (IsFor(shape, type)) shapes.push_back(shape);
  }
  return shapes;
}

// Random operands of one shape, in the bytes of the type and as the values they stand for.
struct Operands {
  Operands(DType operand_type, int64_t row_count, int64_t output_count, int64_t input_count,
           int64_t weight_count, uint32_t seed)
      : type(operand_type),
        rows(row_count),
        outputs(output_count),
        inputs(input_count),
        weights(weight_count) {
    std::mt19937 random(seed);
    blocks = CeilDiv(inputs, kBlock);
    Fill(random, rows, x_bytes, x);
    Fill(random, weights * outputs, w_bytes, w);
    Scales(random, rows * blocks, x_scales);
    Scales(random, weights * CeilDiv(outputs, kBlock) * blocks, w_scales);
  }
  float XScale(int64_t row, int64_t k) const {
    return type == DType::kBF16 ? 1.0F : x_scales[row * blocks + k / kBlock];
  }
  float WScale(int64_t weight, int64_t output, int64_t k) const {
    if (type == DType::kBF16) return 1.0F;
    return w_scales[(weight * CeilDiv(outputs, kBlock) + output / kBlock) * blocks + k / kBlock];
  }
  double Product(int64_t row, int64_t weight, int64_t output) const {
    double sum = 0;
    for (int64_t k = 0; k < inputs; ++k) {
      sum += static_cast<double>(x[row * inputs + k]) * w[(weight * outputs + output) * inputs + k] *
             XScale(row, k) * WScale(weight, output, k);
    }
    return sum;
  }

  DType type;
  int64_t rows, outputs, inputs, weights, blocks = 0;
  std::vector<uint8_t> x_bytes, w_bytes;
  std::vector<float> x, w, x_scales, w_scales;

 private:
  void Fill(std::mt19937& random, int64_t count, std::vector<uint8_t>& bytes,
            std::vector<float>& values) const {
    bytes.resize(static_cast<size_t>(count * inputs * SizeOf(type)));
    values.resize(static_cast<size_t>(count * inputs));
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < values.size(); ++i) {
      const float value = normal(random);
      if (type == DType::kBF16) {
        const BF16 stored = ToBF16(value);
        values[i] = ToFloat(stored);
        std::memcpy(&bytes[2 * i], &stored, 2);
      } else {
        const F8E4M3 stored = ToF8E4M3(60.0F * value);
        values[i] = ToFloat(stored);
        bytes[i] = stored.bits;
      }
    }
  }
  static void Scales(std::mt19937& random, int64_t count, std::vector<float>& scales) {
    for (int64_t i = 0; i < count; ++i)
      scales.push_back(std::ldexp(1.0F, -6 - static_cast<int>(random() % 5)));
  }
};

// The operands on the device, and products of chosen rows of them.
class Products {
 public:
  explicit Products(const Operands& operands)
      : operands_(operands),
        x_(operands.x_bytes),
        w_(operands.w_bytes),
        x_scales_(operands.x_scales),
        w_scales_(operands.w_scales),
        tiles_({-1, 0}) {}

  // The first `rows` rows of x from row `first` on, as groups or all with weight 0; y as fp32 whatever its
  // type, with a row of poison before and after.
  std::vector<float> Run(int64_t first, int64_t rows, DType y_type, int sms,
                         const std::vector<RowGroup>& groups = {}, int shape = kChosen) {
    const int64_t width = operands_.outputs;
    const auto size = static_cast<size_t>((rows + 2) * width);
    const std::vector<RowGroup> shown = groups.empty() ? std::vector<RowGroup>(1) : groups;
    const OnDevice<RowGroup> on_device(shown);
    Gemm gemm;
    gemm.type = operands_.type;
    gemm.rows = rows;
    gemm.inputs = operands_.inputs;
    gemm.outputs = width;
    gemm.weights = operands_.weights;
    gemm.x = x_.data() + first * operands_.inputs * SizeOf(operands_.type);
    gemm.x_stride = operands_.inputs;
    gemm.w = w_.data();
    gemm.x_scales = x_scales_.data() + first * operands_.blocks;
    gemm.x_scales_stride = operands_.blocks;
    gemm.w_scales = w_scales_.data();
    gemm.y_type = y_type;
    gemm.y_stride = width;
    if (!groups.empty()) {
      gemm.groups = on_device.data();
      gemm.group_count = static_cast<int32_t>(groups.size());
    }
    const auto enqueue = [&] {
      Must(shape == kChosen ? Enqueue(gemm, tiles_.data(), sms, nullptr)
                            : EnqueueWithShape(gemm, shape, tiles_.data(), sms, nullptr));
    };
    std::vector<float> values;
    if (y_type == DType::kF32) {
      OnDevice<float> y(std::vector<float>(size, kPoison));
      gemm.y = y.data() + width;
      enqueue();
      values = y.Get();
    } else {
      OnDevice<BF16> y(std::vector<BF16>(size, ToBF16(kPoison)));
      gemm.y = y.data() + width;
      enqueue();
      for (const BF16 value : y.Get()) values.push_back(ToFloat(value));
    }
    EXPECT_EQ(tiles_.Get(), (std::vector<int32_t>{-1, 0})) << "the counter was not left at 0";
    const float poison = y_type == DType::kF32 ? kPoison : RoundToBF16(kPoison);
    for (int64_t i = 0; i < width; ++i) {
      EXPECT_EQ(values[static_cast<size_t>(i)], poison) << "the row before y was written";
      EXPECT_EQ(values[size - 1 - static_cast<size_t>(i)], poison) << "the row after y was written";
    }
    return {values.begin() + width, values.end() - width};
  }

 private:
  const Operands& operands_;
  OnDevice<uint8_t> x_, w_;
  OnDevice<float> x_scales_, w_scales_;
  OnDevice<int32_t> tiles_;  // the first number is not a linear's
};

// sqrt(sum of squared errors / sum of squares) over all outputs of these rows; weight_of[i] is that of
// rows[i].
double RelativeError(const Operands& operands, const std::vector<float>& y, const std::vector<int64_t>& rows,
                     const std::vector<int64_t>& weight_of) {
  std::vector<double> errors(rows.size()), squares(rows.size());
  std::vector<std::thread> threads;
  std::atomic<size_t> next{0};
  for (unsigned t = 0; t < std::max(1U, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] {
      for (size_t i = next++; i < rows.size(); i = next++) {
        for (int64_t n = 0; n < operands.outputs; ++n) {
          const double right = operands.Product(rows[i], weight_of[i], n);
          const double error = y[static_cast<size_t>(rows[i] * operands.outputs + n)] - right;
          errors[i] += error * error;
          squares[i] += right * right;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  double error = 0, square = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    error += errors[i];
    square += squares[i];
  }
  return std::sqrt(error / square);
}

std::vector<int64_t> SomeRows(int64_t rows, int64_t count) {
  std::vector<int64_t> some;
  for (int64_t i = 0; i < std::min(rows, count); ++i)
    some.push_back(i * (rows - 1) / std::max<int64_t>(1, count - 1));
  if (rows <= count) {
    some.clear();
    for (int64_t i = 0; i < rows; ++i) some.push_back(i);
  }
  return some;
}

struct Case {
  DType type;
  int64_t rows, outputs, inputs;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << NameOf(c.type) << " " << c.rows << " x " << c.outputs << " x " << c.inputs;
}

class GemmShapes : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!HasGpu()) GTEST_SKIP() << "there is no GPU";
  }
};
class GemmRows : public GemmShapes {};

// Against double precision over the same operands: FP8 sums of a block carry about 14 bits inside the tensor
// core before they are promoted. A bf16 result is the fp32 one, rounded.
TEST_P(GemmShapes, AreCloseToDouble) {
  const Case& c = GetParam();
  const Operands operands(c.type, c.rows, c.outputs, c.inputs, 1, 7);
  Products products(operands);
  const std::vector<int64_t> rows = SomeRows(c.rows, 16);
  const std::vector<float> y = products.Run(0, c.rows, DType::kF32, Sms());
  EXPECT_LE(RelativeError(operands, y, rows, std::vector<int64_t>(rows.size(), 0)),
            c.type == DType::kBF16 ? 1e-5 : 1e-3);
  const std::vector<float> rounded = products.Run(0, c.rows, DType::kBF16, Sms());
  for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(rounded[i], RoundToBF16(y[i])) << "element " << i;
  for (const int shape : ShapesFor(c.type)) {
    EXPECT_EQ(products.Run(0, c.rows, DType::kF32, Sms(), {}, shape), y) << "tile shape " << shape;
    EXPECT_EQ(products.Run(0, c.rows, DType::kBF16, Sms() - 1, {}, shape), rounded) << "tile shape " << shape;
  }
}
INSTANTIATE_TEST_SUITE_P(
    Gemm, GemmShapes,
    testing::Values(
        Case{DType::kF8E4M3, 1, 128, 128}, Case{DType::kF8E4M3, 200, 256, 512},
        Case{DType::kF8E4M3, 4096, 2112, 7168}, Case{DType::kF8E4M3, 129, 24576, 1536},
        Case{DType::kF8E4M3, 65, 7168, 2048}, Case{DType::kF8E4M3, 64, 7168, 16384},
        Case{DType::kF8E4M3, 33, 130, 144}, Case{DType::kF8E4M3, 5, 77, 16},
        Case{DType::kF8E4M3, 70, 96, 768},
        // Last tiles of 256 x 256: 144 rows by 80 outputs, 114 by 192, 129 by 256; 5, 7 and 3 blocks.
        Case{DType::kF8E4M3, 400, 336, 640}, Case{DType::kF8E4M3, 370, 448, 896},
        Case{DType::kF8E4M3, 385, 512, 384}, Case{DType::kBF16, 400, 336, 320},
        Case{DType::kBF16, 1, 128, 64}, Case{DType::kBF16, 300, 512, 128}, Case{DType::kBF16, 130, 64, 7168},
        Case{DType::kBF16, 257, 256, 7168}, Case{DType::kBF16, 19, 129, 72}));

// One row's bits, whatever comes with it, on however many SMs.
TEST_P(GemmRows, KeepTheirBitsInAnyCompany) {
  const Case& c = GetParam();
  const Operands operands(c.type, c.rows, c.outputs, c.inputs, 1, 11);
  Products products(operands);
  const std::vector<float> all = products.Run(0, c.rows, DType::kF32, Sms());
  std::vector<int> shapes = ShapesFor(c.type);
  shapes.push_back(kChosen);
  size_t turn = 0;
  for (const int64_t rows :
       {1L, 2L, 4L, 8L, 16L, 32L, 63L, 64L, 65L, 127L, 128L, 129L, 192L, 256L, 512L, 1000L, 2048L}) {
    for (const int64_t first : {int64_t{0}, c.rows / 3, c.rows - rows}) {
      if (rows > c.rows || first + rows > c.rows) continue;
      const int shape = shapes[turn++ % shapes.size()];
      for (const int sms : {Sms(), 7, 7}) {
        const std::vector<float> some = products.Run(first, rows, DType::kF32, sms, {}, shape);
        ASSERT_EQ(std::memcmp(some.data(), &all[static_cast<size_t>(first * c.outputs)],
                              some.size() * sizeof(float)),
                  0)
            << rows << " rows from " << first << " on " << sms << " SMs, tile shape " << shape;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Gemm, GemmRows,
                         testing::Values(Case{DType::kF8E4M3, 4096, 2112, 1536},
                                         Case{DType::kF8E4M3, 2048, 512, 7168},
                                         Case{DType::kBF16, 2048, 256, 2048}));

// What a tile leaves behind in shared memory is no business of the next one's. On one cluster each tile
// follows another; with nine blocks of k the scales that a row has not got in its last four are those of a
// row before it, and 0 times NaN is NaN.
TEST(Gemm, TakesNoScalesOfTheTileBefore) {
  if (!HasGpu()) GTEST_SKIP() << "there is no GPU";
  Operands operands(DType::kF8E4M3, 600, 64, 1152, 1, 17);
  const std::vector<float> clean = Products(operands).Run(0, operands.rows, DType::kF32, Sms());
  for (int64_t k = 0; k < operands.blocks; ++k)
    operands.x_scales[k] = std::numeric_limits<float>::quiet_NaN();
  Products products(operands);
  for (const int shape : ShapesFor(operands.type)) {
    const int sms = kTileShapes[shape].blocks();
    const std::vector<float> y = products.Run(0, operands.rows, DType::kF32, sms, {}, shape);
    ASSERT_TRUE(std::isnan(y[0])) << "tile shape " << shape;
    EXPECT_EQ(std::vector<float>(y.begin() + operands.outputs, y.end()),
              std::vector<float>(clean.begin() + operands.outputs, clean.end()))
        << "tile shape " << shape;
  }
}

class GemmGroups : public GemmShapes {};

// Groups multiply each row by its own weight, with the bits of a dense product; nothing else is written.
TEST_P(GemmGroups, GiveEachRowItsWeight) {
  const Case& c = GetParam();
  constexpr int64_t kWeights = 9;
  const Operands operands(c.type, c.rows, c.outputs, c.inputs, kWeights, 13);
  Products products(operands);
  // Contiguous ranges, ragged, some empty; and slots of which each holds a few rows.
  std::vector<RowGroup> contiguous, slots;
  std::mt19937 random(5);
  int32_t begin = 0;
  for (int32_t weight = 0; weight < kWeights; ++weight) {
    const auto left = static_cast<int32_t>(c.rows) - begin;
    const int32_t count = weight == kWeights - 1 ? left
                          : weight % 3 == 1      ? 0
                                                 : static_cast<int32_t>(random() % (left / 3));
    contiguous.push_back({begin, begin + count, weight});
    begin += count;
    const auto slot = static_cast<int32_t>(c.rows / kWeights);
    slots.push_back(
        {weight * slot, weight * slot + static_cast<int32_t>(random() % 4) * (weight % 2), weight});
  }
  for (const auto& groups : {contiguous, slots}) {
    const std::vector<float> y = products.Run(0, c.rows, DType::kF32, Sms(), groups);
    const std::vector<float> again = products.Run(0, c.rows, DType::kF32, 3, groups);
    EXPECT_EQ(y, again) << "on 3 SMs";
    for (const int shape : ShapesFor(c.type)) {
      EXPECT_EQ(products.Run(0, c.rows, DType::kF32, Sms(), groups, shape), y) << "tile shape " << shape;
    }
    std::vector<int64_t> rows, weight_of;
    std::vector<bool> written(static_cast<size_t>(c.rows));
    for (const RowGroup& group : groups) {
      for (int32_t row = group.begin; row < group.end; ++row) {
        written[static_cast<size_t>(row)] = true;
        if (row - group.begin > 3 && group.end - row > 3) continue;
        rows.push_back(row);
        weight_of.push_back(group.weight);
        // Alone: a group of one row.
        const std::vector<float> alone = products.Run(row, 1, DType::kF32, Sms(), {{0, 1, group.weight}});
        ASSERT_EQ(
            std::memcmp(alone.data(), &y[static_cast<size_t>(row * c.outputs)], alone.size() * sizeof(float)),
            0)
            << "row " << row;
      }
    }
    EXPECT_LE(RelativeError(operands, y, rows, weight_of), c.type == DType::kBF16 ? 1e-5 : 1e-3);
    for (int64_t row = 0; row < c.rows; ++row) {
      if (written[static_cast<size_t>(row)]) continue;
      ASSERT_EQ(y[static_cast<size_t>(row * c.outputs)], kPoison) << "row " << row << " belongs to no group";
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Gemm, GemmGroups,
                         testing::Values(Case{DType::kF8E4M3, 1024, 512, 1024},
                                         Case{DType::kF8E4M3, 900, 192, 7168},
                                         Case{DType::kF8E4M3, 2500, 320, 640},
                                         Case{DType::kBF16, 700, 512, 128}));

}  // namespace
}  // namespace sluice::ops::cuda
