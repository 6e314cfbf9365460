#include "ops/cuda/sparse_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "ops/cuda/attention_calls.h"
#include "ops/cuda/attention_world.h"
#include "ops/cuda/on_device.h"
#include "ops/ops.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops::cuda {
namespace {

using World = AttentionWorld;

// Relative rms of a row, against double. Weights and output are rounded to bf16, each an error of 2^-9 at
// most and 8e-4 in the rms.
constexpr double kMostError = 2e-3;

class SparseAttentionTest : public testing::TestWithParam<std::tuple<CacheFormat, int64_t>> {
 protected:
  void SetUp() override {
    if (!HasGpu()) GTEST_SKIP() << "there is no GPU";
  }
  static World Make(uint32_t placement = 1) {
    return World(std::get<0>(GetParam()), std::get<1>(GetParam()), placement);
  }
};

// All heads of the edge rows, every ninth of every fourth other row if there are many; all values are there,
// and numbers.
TEST_P(SparseAttentionTest, IsCloseToDouble) {
  const World world = Make();
  const std::vector<BF16> o = Attention(world).Attend({});
  const auto not_numbers =
      std::count_if(o.begin(), o.end(), [](BF16 value) { return !std::isfinite(ToFloat(value)); });
  ASSERT_EQ(not_numbers, 0);
  double worst = 0.0;
  for (int64_t t = 0; t < World::kRows; ++t) {
    const bool edge = t < std::ssize(World::kEdges);
    if (!edge && t % 4 != 0) continue;
    double error = 0.0, square = 0.0;
    const int64_t step = edge || world.heads <= 16 ? 1 : 9;
    for (int64_t h = t / 4 % step; h < world.heads; h += step) {
      const std::vector<double> right = world.Right(t, h);
      for (int64_t i = 0; i < kLatent; ++i) {
        const double difference = ToFloat(o[(t * world.heads + h) * kLatent + i]) - right[i];
        error += difference * difference;
        square += right[i] * right[i];
      }
    }
    if (world.count[t] == 0) {
      EXPECT_EQ(error, 0.0) << "row " << t;
      continue;
    }
    const double relative = std::sqrt(error / square);
    worst = std::max(worst, relative);
    EXPECT_LE(relative, kMostError) << "row " << t << " of " << world.count[t] << " keys";
  }
  RecordProperty("worst", std::to_string(worst));
}

TEST_P(SparseAttentionTest, ARowKeepsItsBitsInAnyCompanyPagesAndOnAnySms) {
  const World world = Make();
  const Attention attention(world);
  const std::vector<BF16> all = attention.Attend({});
  const auto expect_equal = [&](const Attention& where, const Attention::Part& part, const char* what) {
    where.ExpectSame(all, part, where.Attend(part), what);
  };
  for (int64_t t = 0; t < 24; ++t) expect_equal(attention, {.first_row = t, .rows = 1}, "alone");
  // Of an H200's 132 SMs. Few rows are shared by 8, 4 or 2 SMs for each 64 heads, up to 16, 33 and 66 of
  // these.
  for (const int64_t rows : {2, 5, 8, 9, 16, 17, 33, 34, 64, 65, 66, 67, 131, 132, 133, 299}) {
    expect_equal(attention, {.rows = rows}, "among fewer");
    expect_equal(attention, {.first_row = World::kRows - rows, .rows = rows}, "among fewer, the last");
  }
  for (const int sms : {1, 7, 131}) {
    expect_equal(attention, {.sms = std::min(sms, Sms())}, "on fewer SMs");
    expect_equal(attention, {.rows = 16, .sms = std::min(sms, Sms())}, "of few on fewer SMs");
  }
  for (const int64_t heads : {int64_t{1}, int64_t{8}, world.heads / 2}) {
    for (const int64_t first : {int64_t{0}, world.heads / 2, world.heads - heads}) {
      if (first + heads > world.heads) continue;
      expect_equal(attention, {.rows = 100, .first_head = first, .heads = heads}, "with fewer heads");
    }
  }
  const World elsewhere = Make(/*placement=*/2);
  expect_equal(Attention(elsewhere), {}, "in other pages");
  expect_equal(Attention(elsewhere), {.rows = 20}, "of few in other pages");
}

INSTANTIATE_TEST_SUITE_P(Real, SparseAttentionTest,
                         testing::Combine(testing::Values(CacheFormat::kFp8, CacheFormat::kBf16),
                                          testing::Values(128, 64, 16, 8)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param) == CacheFormat::kFp8 ? "Fp8" : "Bf16") +
                                  std::to_string(std::get<1>(test.param)) + "Heads";
                         });
// A width that no shape of 64 heads divides.
INSTANTIATE_TEST_SUITE_P(Odd, SparseAttentionTest,
                         testing::Combine(testing::Values(CacheFormat::kFp8), testing::Values(83)));

// The contract's own reference, which reads the same cache; with selections of fewer columns.
TEST(SparseAttention, IsCloseToTheReferenceOps) {
  if (!HasGpu()) GTEST_SKIP() << "there is no GPU";
  for (const CacheFormat format : {CacheFormat::kFp8, CacheFormat::kBf16}) {
    World world(format, 8, 1);
    const Attention attention(world);
    const std::unique_ptr<Ops> reference = MakeReferenceOps(Numerics::kFp8);
    const std::vector<PageTable> pages = {PageTable(world.table).first(World::kPages),
                                          PageTable(world.table).last(World::kPages)};
    std::vector<RowPlace> places;
    for (const int32_t sequence : world.sequences) places.push_back({sequence, World::kContext - 1});
    const AttentionShape shape = {8, 128, kRotated, kLatent, 128};
    for (const int64_t top_k : {int64_t{1}, int64_t{100}, int64_t{600}, World::kTopK}) {
      // Row 11 and those behind have any number of keys.
      const int64_t first = 9;
      const int64_t rows = 6;
      std::vector<BF16> right(rows * 8 * kLatent);
      const auto tensor = [](void* data, DType type, int64_t cols, int64_t stride) {
        return Tensor{data, type, rows, cols, stride};
      };
      reference->SparseAttention(
          shape,
          tensor(world.q.data() + first * 8 * kLatentWidth, DType::kBF16, 8 * kLatentWidth, 8 * kLatentWidth),
          {reinterpret_cast<std::byte*>(world.cache.data()), format}, std::span(places).subspan(first, rows),
          pages,
          tensor(world.selection.data() + first * World::kSelectionStride, DType::kI32, top_k,
                 World::kSelectionStride),
          World::kScale, tensor(right.data(), DType::kBF16, 8 * kLatent, 8 * kLatent));
      const std::vector<BF16> mine = attention.Attend({.first_row = first, .rows = rows, .top_k = top_k});
      for (int64_t t = 0; t < rows; ++t) {
        double error = 0.0, square = 0.0;
        for (int64_t i = t * 8 * kLatent; i < (t + 1) * 8 * kLatent; ++i) {
          const double difference = ToFloat(mine[i]) - ToFloat(right[i]);
          error += difference * difference;
          square += ToFloat(right[i]) * ToFloat(right[i]);
        }
        EXPECT_LE(std::sqrt(error / square), kMostError) << "row " << first + t << ", top " << top_k;
      }
    }
  }
}

TEST(SparseAttention, RefusesWhatItCannotDo) {
  SparseAttention work;
  work.heads = 129;
  EXPECT_THROW(Enqueue(work, nullptr, 1, nullptr), Error);
  work.heads = 128;
  work.top_k = kMostAttended + 1;
  EXPECT_THROW(Enqueue(work, nullptr, 1, nullptr), Error);
  work.top_k = kMostAttended;
  constexpr int kSms = 64;
  EXPECT_THROW(Enqueue(work, nullptr, kSms, nullptr), Error);  // no workspace
  work.workspace_bytes = WorkspaceBytes(kSms);
  EXPECT_EQ(Enqueue(work, nullptr, kSms, nullptr), cudaSuccess);  // no rows
  work.format = CacheFormat::kF32;
  EXPECT_THROW(Enqueue(work, nullptr, kSms, nullptr), Error);
}

}  // namespace
}  // namespace sluice::ops::cuda
