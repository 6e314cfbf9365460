#include "ops/cuda/sparse_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "ops/cuda/on_device.h"
#include "ops/ops.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops::cuda {
namespace {

constexpr int64_t kContext = 65536;
constexpr int64_t kPages = kContext / kPageTokens;
constexpr int32_t kSequences = 2;
constexpr int64_t kWritten = 6000;  // positions of a sequence that hold keys; the others hold NaN
constexpr int64_t kRows = 300;
constexpr int64_t kTopK = 2048;
constexpr int64_t kSelectionStride = kTopK + 5;
constexpr int64_t kGuard = 1024;      // values or bytes around what a kernel writes
constexpr uint16_t kPoison = 0x7fd5;  // a NaN that no arithmetic makes
constexpr float kScale = 0.0722F;     // 192^-1/2
// Relative rms of a row, against double. Weights and output are rounded to bf16, each an error of 2^-9 at
// most and 8e-4 in the rms.
constexpr double kMostError = 2e-3;

// The first rows have these numbers of keys, the others any.
constexpr int32_t kEdges[] = {0, 1, 63, 64, 65, 511, 512, 513, 1024, 2047, 2048};

// Queries, selections and a cache of two sequences; `placement` decides where their pages lie.
//
// Scores: keys are noise + u + (position / context) v, and the rows' queries in turn give small scores, those
// of one deviation, one key that outweighs all, -150 and less, and scores that rise or fall by 60 on the way.
struct World {
  World(CacheFormat cache_format, int64_t head_count, uint32_t placement)
      : format(cache_format), heads(head_count), row_bytes(LatentRowBytes(format, kLatent, kRotated)) {
    std::mt19937 random(11);
    std::normal_distribution<float> normal;
    table.resize(kSequences * kPages);
    std::iota(table.begin(), table.end(), 0);
    std::mt19937 shuffle(placement);
    std::shuffle(table.begin(), table.end(), shuffle);
    cache.resize(table.size() * kPageTokens * row_bytes, 0x7f);
    std::vector<float> u(kLatentWidth), v(kLatentWidth);
    for (float& x : u) x = 0.5F * normal(random);
    for (float& x : v) x = normal(random);
    key_of.assign(kSequences, std::vector<int32_t>(kContext, -1));
    std::vector<std::vector<int32_t>> written(kSequences);
    for (int32_t sequence = 0; sequence < kSequences; ++sequence) {
      std::vector<int32_t> positions(kContext);
      std::iota(positions.begin(), positions.end(), 0);
      std::shuffle(positions.begin(), positions.end(), random);
      positions.resize(kWritten);
      for (const int32_t position : positions) {
        std::vector<float> key(kLatentWidth);
        for (int64_t i = 0; i < kLatentWidth; ++i) {
          key[i] = normal(random) + u[i] + static_cast<float>(position) / kContext * v[i];
        }
        key_of[sequence][position] = static_cast<int32_t>(keys.size() / kLatentWidth);
        Write(key, cache.data() + CacheRow(sequence, position) * row_bytes, random);
      }
      written[sequence] = positions;
    }
    selection.assign(kRows * kSelectionStride, 1 << 30);
    for (int64_t t = 0; t < kRows; ++t) {
      sequences.push_back(static_cast<int32_t>(t / 2 % kSequences));
      count.push_back(t < std::ssize(kEdges) ? kEdges[t] : static_cast<int32_t>(random() % (kTopK + 1)));
      std::vector<int32_t>& from = written[sequences[t]];
      std::shuffle(from.begin(), from.end(), random);
      int32_t* row = selection.data() + t * kSelectionStride;
      std::fill_n(row, kTopK, -1);
      std::copy_n(from.begin(), count[t], row);
      std::sort(row, row + count[t]);
    }
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        // u.u is about 144, v.v 576, and a query of unit deviation has scores of deviation 1.7.
        constexpr float kNoise[] = {0.1F, 1.0F, 20.0F, 1.0F, 0.5F, 0.5F};
        constexpr float kAlongU[] = {0, 0, 0, -15.0F, 0, 0};
        constexpr float kAlongV[] = {0, 0, 0, 0, 1.5F, -1.5F};
        const int64_t kind = (t + h) % 6;
        for (int64_t i = 0; i < kLatentWidth; ++i) {
          q.push_back(ToBF16(kNoise[kind] * normal(random) + kAlongU[kind] * u[i] + kAlongV[kind] * v[i]));
        }
      }
    }
  }

  int64_t CacheRow(int32_t sequence, int32_t position) const {
    return table[sequence * kPages + position / kPageTokens] * kPageTokens + position % kPageTokens;
  }

  // Appends to keys what is written.
  void Write(const std::vector<float>& key, uint8_t* row, std::mt19937& random) {
    uint8_t* rotated = row;
    if (format == CacheFormat::kFp8) {
      for (int64_t block = 0; block < kLatent / kQuantBlock; ++block) {
        // Blocks with scales far apart: a scale of another block is a large error.
        const float scale = std::ldexp(1.0F, -6 + static_cast<int>(random() % 4));
        std::memcpy(row + kLatent + 4 * block, &scale, 4);
        for (int64_t i = block * kQuantBlock; i < (block + 1) * kQuantBlock; ++i) {
          const F8E4M3 code = ToF8E4M3(key[i] / scale);
          row[i] = code.bits;
          keys.push_back(static_cast<double>(ToFloat(code)) * scale);
        }
      }
      rotated += row_bytes - 2 * kRotated;
    } else {
      rotated = WriteBf16(std::span(key).first(kLatent), row);
    }
    WriteBf16(std::span(key).last(kRotated), rotated);
  }
  uint8_t* WriteBf16(std::span<const float> values, uint8_t* to) {
    for (const float value : values) {
      const BF16 rounded = ToBF16(value);
      std::memcpy(to, &rounded, 2);
      to += 2;
      keys.push_back(ToFloat(rounded));
    }
    return to;
  }

  // o_latent of a row and a head in double.
  std::vector<double> Right(int64_t t, int64_t h) const {
    std::vector<double> query(kLatentWidth);
    for (int64_t i = 0; i < kLatentWidth; ++i) query[i] = ToFloat(q[(t * heads + h) * kLatentWidth + i]);
    std::vector<double> scores(count[t]);
    const auto key = [&](int64_t j) {
      return keys.data() + key_of[sequences[t]][selection[t * kSelectionStride + j]] * kLatentWidth;
    };
    for (int64_t j = 0; j < count[t]; ++j) {
      scores[j] = kScale * std::inner_product(query.begin(), query.end(), key(j), 0.0);
    }
    std::vector<double> o(kLatent, 0.0);
    if (count[t] == 0) return o;
    const double largest = *std::max_element(scores.begin(), scores.end());
    double sum = 0.0;
    for (int64_t j = 0; j < count[t]; ++j) {
      const double p = std::exp(scores[j] - largest);
      sum += p;
      for (int64_t i = 0; i < kLatent; ++i) o[i] += p * key(j)[i];
    }
    for (double& value : o) value /= sum;
    return o;
  }

  CacheFormat format;
  int64_t heads;
  int64_t row_bytes;
  std::vector<int32_t> table;
  std::vector<uint8_t> cache;
  std::vector<double> keys;                  // as written, [key, kLatentWidth]
  std::vector<std::vector<int32_t>> key_of;  // [sequence][position]: number of the key, -1
  std::vector<int32_t> sequences, count, selection;
  std::vector<BF16> q;  // [kRows, heads * kLatentWidth]
};

// A world on the device, and calls on parts of it.
class Attention {
 public:
  explicit Attention(const World& world)
      : world_(world),
        cache_(world.cache),
        table_(world.table),
        q_(world.q),
        workspace_(std::vector<uint8_t>(WorkspaceBytes(Sms()) + kGuard)),
        counter_({0}) {}

  struct Part {
    int64_t first_row = 0;
    int64_t rows = kRows;
    int64_t first_head = 0;
    int64_t heads = 0;  // 0: all
    int sms = 0;        // 0: all
    int64_t top_k = kTopK;
  };

  // [rows, heads * kLatent], what lies around it having been left alone.
  std::vector<BF16> Attend(Part part) const {
    if (part.heads == 0) part.heads = world_.heads;
    if (part.sms == 0) part.sms = Sms();
    constexpr int64_t kPad = 16;
    const int64_t o_stride = part.heads * kLatent + kPad;
    const OnDevice<BF16> o(std::vector<BF16>(2 * kGuard + part.rows * o_stride, BF16{kPoison}));
    const int64_t bytes = WorkspaceBytes(part.sms);
    Must(cudaMemset(workspace_.data(), 0x7f, bytes + kGuard));
    const auto first = world_.sequences.begin() + part.first_row;
    const OnDevice<int32_t> sequences(std::vector<int32_t>(first, first + part.rows));
    const auto selected = world_.selection.begin() + part.first_row * kSelectionStride;
    const OnDevice<int32_t> selection(
        std::vector<int32_t>(selected, selected + part.rows * kSelectionStride));
    SparseAttention work;
    work.rows = part.rows;
    work.heads = part.heads;
    work.scale = kScale;
    work.q_stride = world_.heads * kLatentWidth;
    work.q_latent = q_.data() + part.first_row * work.q_stride + part.first_head * kLatentWidth;
    work.format = world_.format;
    work.latents = cache_.data();
    work.page_tables = table_.data();
    work.table_stride = kPages;
    work.sequences = sequences.data();
    work.selection = selection.data();
    work.top_k = part.top_k;
    work.selection_stride = kSelectionStride;
    work.o_latent = o.data() + kGuard;
    work.o_stride = o_stride;
    work.workspace = workspace_.data();
    work.workspace_bytes = bytes;
    Must(Enqueue(work, counter_.data(), part.sms, nullptr));
    Must(cudaDeviceSynchronize());
    const std::vector<BF16> all = o.Get();
    std::vector<BF16> out;
    int64_t touched = 0;
    for (int64_t i = 0; i < std::ssize(all); ++i) {
      const int64_t inside = i - kGuard;
      if (inside >= 0 && inside < part.rows * o_stride && inside % o_stride < part.heads * kLatent) {
        out.push_back(all[i]);
      } else if (all[i].bits != kPoison) {
        ++touched;
      }
    }
    EXPECT_EQ(touched, 0) << "values around the output";
    std::vector<uint8_t> behind(kGuard);
    Must(cudaMemcpy(behind.data(), workspace_.data() + bytes, kGuard, cudaMemcpyDeviceToHost));
    EXPECT_EQ(std::count(behind.begin(), behind.end(), 0x7f), kGuard) << "bytes behind the workspace";
    return out;
  }

 private:
  const World& world_;
  OnDevice<uint8_t> cache_;
  OnDevice<int32_t> table_;
  OnDevice<BF16> q_;
  OnDevice<uint8_t> workspace_;
  OnDevice<int32_t> counter_;
};

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
  for (int64_t t = 0; t < kRows; ++t) {
    const bool edge = t < std::ssize(kEdges);
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
    const std::vector<BF16> some = where.Attend(part);
    const int64_t heads = part.heads == 0 ? world.heads : part.heads;
    for (int64_t t = 0; t < part.rows; ++t) {
      const BF16* right = all.data() + ((part.first_row + t) * world.heads + part.first_head) * kLatent;
      ASSERT_EQ(std::memcmp(some.data() + t * heads * kLatent, right, heads * kLatent * sizeof(BF16)), 0)
          << "row " << part.first_row + t << " " << what;
    }
  };
  for (int64_t t = 0; t < 24; ++t) expect_equal(attention, {.first_row = t, .rows = 1}, "alone");
  // Of an H200's 132 SMs. Few rows are shared by 8, 4 or 2 SMs for each 64 heads, up to 16, 33 and 66 of these.
  for (const int64_t rows : {2, 5, 8, 9, 16, 17, 33, 34, 64, 65, 66, 67, 131, 132, 133, 299}) {
    expect_equal(attention, {.rows = rows}, "among fewer");
    expect_equal(attention, {.first_row = kRows - rows, .rows = rows}, "among fewer, the last");
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
    const std::vector<PageTable> pages = {PageTable(world.table).first(kPages),
                                          PageTable(world.table).last(kPages)};
    std::vector<RowPlace> places;
    for (const int32_t sequence : world.sequences) places.push_back({sequence, kContext - 1});
    const AttentionShape shape = {8, 128, kRotated, kLatent, 128};
    for (const int64_t top_k : {int64_t{1}, int64_t{100}, int64_t{600}, kTopK}) {
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
          tensor(world.selection.data() + first * kSelectionStride, DType::kI32, top_k, kSelectionStride),
          kScale, tensor(right.data(), DType::kBF16, 8 * kLatent, 8 * kLatent));
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
