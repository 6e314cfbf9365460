#include "ops/cuda/bf16_keys.h"

#include <cstring>
#include <functional>
#include <numeric>

#include "ops/cuda/bf16_keys_plan.h"
#include "ops/cuda/ops_on_gpu.h"
#include "ops/cuda/reserved.h"

// Attention from an FP8 cache whose pages were made bf16 first is attention from that cache, bit for bit.
namespace sluice::ops::cuda {
namespace {

constexpr int64_t kFp8RowBytes = LatentRowBytes(CacheFormat::kFp8, kLatent, kRotated);
constexpr int64_t kFp8PageBytes = kPageTokens * kFp8RowBytes;
constexpr uint8_t kNothing = 0x7f;  // bytes that are not read, or not written: NaN, or 3e38, in each type

// ---- pages ----

using ScaleOf = std::function<float(int64_t row, int64_t block)>;

// `pages` pages of all 256 codes in turn, so that each is at every place of a row, and random rotated
// channels.
std::vector<uint8_t> Fp8Pages(int64_t pages, const ScaleOf& scale_of) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<uint8_t> bytes(pages * kFp8PageBytes);
  for (int64_t row = 0; row < pages * kPageTokens; ++row) {
    uint8_t* to = bytes.data() + row * kFp8RowBytes;
    for (int64_t i = 0; i < kLatent; ++i) to[i] = static_cast<uint8_t>(i + 7 * row + i / 256 * 3);
    for (int64_t block = 0; block < kLatent / kQuantBlock; ++block) {
      const float scale = scale_of(row, block);
      std::memcpy(to + kLatent + 4 * block, &scale, 4);
    }
    for (int64_t i = 0; i < kRotated; ++i) {
      const BF16 value = ToBF16(normal(random));
      std::memcpy(to + ScaledCodeBytes(kLatent) + 2 * i, &value, 2);
    }
  }
  return bytes;
}

// The bf16 row of a cache's row in the host's own arithmetic; codes that are no number stay out of it.
void ExpectIsRow(const uint8_t* fp8, const uint8_t* bf16, int64_t row) {
  int64_t different = 0;
  for (int64_t i = 0; i < kLatent; ++i) {
    const F8E4M3 code{fp8[i]};
    if ((code.bits & 0x7f) == 0x7f) continue;
    float scale = 0.0F;
    std::memcpy(&scale, fp8 + kLatent + i / kQuantBlock * 4, 4);
    const BF16 right = ToBF16(ToFloat(code) * scale);
    different += std::memcmp(bf16 + 2 * i, &right, 2) != 0 ? 1 : 0;
  }
  EXPECT_EQ(different, 0) << "latents of row " << row;
  EXPECT_EQ(std::memcmp(bf16 + 2 * kLatent, fp8 + ScaledCodeBytes(kLatent), 2 * kRotated), 0)
      << "rotated channels of row " << row;
}

class Bf16KeysTest : public OnGpu {};

// In any order, one twice, with pages between them that are not asked for, on few and many SMs.
TEST_F(Bf16KeysTest, AreTheCodesTimesTheirScales) {
  constexpr int64_t kPages = 300;
  // 2^-126 to 2^67, another in every block and row.
  const std::vector<uint8_t> cache = Fp8Pages(kPages, [](int64_t row, int64_t block) {
    return std::ldexp(1.0F, static_cast<int>((row * 4 + block) * 37 % 194) - 126);
  });
  std::vector<int32_t> asked(kPages);
  std::iota(asked.begin(), asked.end(), 0);
  std::shuffle(asked.begin(), asked.end(), std::mt19937(2));
  asked.resize(kPages - 9);
  asked[100] = asked[3];
  const OnDevice<uint8_t> on_cache(cache);
  const OnDevice<int32_t> on_asked(asked);
  const auto rows_of = [&](int64_t pages, int sms) {
    constexpr int64_t kGuard = 4096;
    const OnDevice<uint8_t> keys(std::vector<uint8_t>(pages * kBf16PageBytes + 2 * kGuard, kNothing));
    Must(Enqueue(Bf16Keys{pages, on_cache.data(), on_asked.data(), keys.data() + kGuard}, sms, nullptr));
    Must(cudaDeviceSynchronize());
    std::vector<uint8_t> all = keys.Get();
    EXPECT_EQ(std::count(all.begin(), all.begin() + kGuard, kNothing), kGuard);
    EXPECT_EQ(std::count(all.end() - kGuard, all.end(), kNothing), kGuard);
    return std::vector<uint8_t>(all.begin() + kGuard, all.end() - kGuard);
  };
  const std::vector<uint8_t> all = rows_of(std::ssize(asked), Sms());
  for (int64_t row = 0; row < std::ssize(asked) * kPageTokens; ++row) {
    const int64_t from = asked[row / kPageTokens] * kPageTokens + row % kPageTokens;
    ExpectIsRow(cache.data() + from * kFp8RowBytes, all.data() + row * (kBf16PageBytes / kPageTokens), row);
  }
  EXPECT_TRUE(all == rows_of(std::ssize(asked), 7)) << "on 7 SMs";
  for (const int64_t pages : {0, 1, 2, 131, 132, 133}) {
    const std::vector<uint8_t> some = rows_of(pages, Sms());
    EXPECT_EQ(std::memcmp(some.data(), all.data(), some.size()), 0) << pages << " pages";
  }
}

TEST_F(Bf16KeysTest, RefuseWhatIsNotAligned) {
  const OnDevice<uint8_t> memory(std::vector<uint8_t>(64));
  const auto* place = reinterpret_cast<const int32_t*>(memory.data());
  EXPECT_EQ(Enqueue(Bf16Keys{1, memory.data() + 8, place, memory.data()}, 1, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(Enqueue(Bf16Keys{1, memory.data(), place, memory.data() + 8}, 1, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(Enqueue(Bf16Keys{1, memory.data(), place, memory.data()}, 0, nullptr), cudaErrorInvalidValue);
}

// ---- attention ----

// Sequences of these lengths: their pages lie shuffled among others, of nothing.
constexpr int32_t kLengths[] = {1, 63, 64, 65, 0, 3000, 1000, 5000};
constexpr size_t kHuge = 3;  // the values of some scales are infinite
constexpr size_t kWithoutRows = 4;
constexpr size_t kTiny = 5;  // those of some are subnormal or 0
constexpr size_t kLong = 7;
constexpr int64_t kTopK = 2048;
constexpr int64_t kRows = 600;
constexpr float kScale = 0.0722F / 8.0F;

class Sequences : public OpsOnGpu, public testing::WithParamInterface<int64_t> {
 protected:
  void SetUp() override {
    OpsOnGpu::SetUp();
    if (IsSkipped()) return;
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    int32_t count = 0;
    // A sequence's table is longer than what its rows see.
    for (const int32_t length : kLengths) {
      tables_.emplace_back(length / kPageTokens + 3);
      count += static_cast<int32_t>(tables_.back().size());
    }
    std::vector<int32_t> numbers(2 * count);
    std::iota(numbers.begin(), numbers.end(), 0);
    std::shuffle(numbers.begin(), numbers.end(), random);
    std::vector<uint8_t> cache(numbers.size() * kFp8PageBytes, kNothing);
    size_t next = 0;
    for (size_t sequence = 0; sequence < tables_.size(); ++sequence) {
      const std::vector<uint8_t> keys = Fp8Pages(tables_[sequence].size(), [&](int64_t row, int64_t block) {
        constexpr float kHugeScales[] = {0x1p100F, 0x1p66F, 0x1p30F, 0x1p-1F};
        constexpr float kTinyScales[] = {0x1p-126F, 0.0F, 0x1p-149F, 0x1p-70F, 0x1p-122F, 0x1p-2F, 0x1p-5F};
        if (sequence == kHuge) return kHugeScales[(row + 3 * block) % 4];
        if (sequence == kTiny) return kTinyScales[(row + 3 * block) % 7];
        return std::ldexp(1.0F, static_cast<int>((row * 5 + block * 3 + row / 64) % 7) - 10);
      });
      for (size_t i = 0; i < tables_[sequence].size(); ++i) {
        tables_[sequence][i] = numbers[next++];
        // Of the last page only the rows that there are.
        const int64_t rows = std::clamp<int64_t>(kLengths[sequence] - i * kPageTokens, 0, kPageTokens);
        std::memcpy(cache.data() + tables_[sequence][i] * kFp8PageBytes, keys.data() + i * kFp8PageBytes,
                    rows * kFp8RowBytes);
      }
    }
    cache_ = std::make_unique<OnDevice<uint8_t>>(cache);
    selection_ = OwnedTensor(DType::kI32, kRows, kTopK);
    for (int64_t t = 0; t < kRows; ++t) {
      // Rows near a sequence's end, its last one among them, and some that are far before it.
      auto sequence = static_cast<size_t>(t * 5 / 3 % std::ssize(kLengths));
      if (sequence == kWithoutRows) sequence = kLong;
      const int32_t length = kLengths[sequence];
      const int32_t position = t % 16 < 8 ? length - 1 : static_cast<int32_t>(random() % length);
      places_.push_back({static_cast<int32_t>(sequence), position});
      std::vector<int32_t> seen(position + 1);
      std::iota(seen.begin(), seen.end(), 0);
      // A short selection in some: fewer keys than the row might take.
      const int64_t most = t % 7 == 0 ? 1 + random() % 100 : kTopK;
      std::vector<int32_t> chosen;
      std::sample(seen.begin(), seen.end() - 1, std::back_inserter(chosen), most - 1, random);
      chosen.push_back(position);
      chosen.resize(kTopK, -1);
      std::memcpy(selection_.view().Row<int32_t>(t), chosen.data(), kTopK * 4);
    }
    queries_ = OwnedTensor(DType::kBF16, kRows, heads() * kLatentWidth);
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t i = 0; i < queries_.view().cols; ++i) StoreFloat(queries_, t, i, normal(random));
    }
  }
  int64_t heads() const { return GetParam(); }
  std::vector<PageTable> Tables() const { return {tables_.begin(), tables_.end()}; }
  PagedCache Cache() const { return {reinterpret_cast<std::byte*>(cache_->data()), CacheFormat::kFp8}; }

  // The op over the first `rows` rows, and how many launches it took.
  struct Attended {
    OwnedTensor o;
    int64_t launches = 0;
  };
  Attended Attend(int64_t rows = kRows, int64_t top_k = kTopK) {
    const OwnedTensor q = ToGpu(queries_.view().RowRange(0, rows));
    const OwnedTensor selection = ToGpu(Packed(selection_.view().RowRange(0, rows).ColRange(0, top_k)));
    OwnedTensor o(DType::kBF16, rows, heads() * kLatent);
    std::memset(o.view().data, 0xff, o.view().bytes());
    const OwnedTensor on_gpu = ToGpu(o);
    const int64_t before = ops_->ops_enqueued();
    const AttentionShape shape = {heads(), 128, kRotated, kLatent, 128};
    ops_->SparseAttention(shape, q, Cache(), std::span(places_).first(rows), Tables(), selection, kScale,
                          on_gpu);
    return {ToHost(on_gpu), ops_->ops_enqueued() - before};
  }
  // The kernel that dequantises as it goes.
  OwnedTensor AttendFromFp8(int64_t rows = kRows, int64_t top_k = kTopK) {
    const OwnedTensor q = ToGpu(queries_.view().RowRange(0, rows));
    const OwnedTensor selection = ToGpu(Packed(selection_.view().RowRange(0, rows).ColRange(0, top_k)));
    const OwnedTensor o(DType::kBF16, rows, heads() * kLatent, ops_->memory());
    size_t longest = 0;
    for (const auto& table : tables_) longest = std::max(longest, table.size());
    std::vector<int32_t> tables, sequences;
    for (std::vector<int32_t> table : tables_) {
      table.resize(longest);
      tables.insert(tables.end(), table.begin(), table.end());
    }
    for (const RowPlace& place : places_) sequences.push_back(place.sequence);
    const OnDevice<int32_t> on_tables(tables), on_sequences(sequences), counter({0, 0});
    const OnDevice<uint8_t> workspace(std::vector<uint8_t>(WorkspaceBytes(Sms())));
    const OnDevice<uint32_t> published(std::vector<uint32_t>(PublishedBytes(Sms()) / sizeof(uint32_t)));
    SparseAttention work;
    work.rows = rows;
    work.heads = heads();
    work.scale = kScale;
    work.q_latent = q.view().data;
    work.q_stride = q.view().stride;
    work.latents = cache_->data();
    work.page_tables = on_tables.data();
    work.table_stride = static_cast<int64_t>(longest);
    work.sequences = on_sequences.data();
    work.selection = selection.view().Row<const int32_t>(0);
    work.top_k = work.selection_stride = top_k;
    work.o_latent = o.view().data;
    work.o_stride = o.view().stride;
    work.workspace = workspace.data();
    work.workspace_bytes = WorkspaceBytes(Sms());
    work.published = published.data();
    Must(Enqueue(work, counter.data(), Sms(), nullptr));
    Must(cudaDeviceSynchronize());
    return ToHost(o);
  }
  static OwnedTensor Packed(const Tensor& numbers) {
    OwnedTensor packed(DType::kI32, numbers.rows, numbers.cols);
    for (int64_t t = 0; t < numbers.rows; ++t) {
      std::memcpy(packed.view().Row<int32_t>(t), numbers.Row<int32_t>(t), numbers.cols * sizeof(int32_t));
    }
    return packed;
  }
  void ExpectSame(const Tensor& o, const Tensor& right, const char* what) const {
    for (int64_t t = 0; t < o.rows; ++t) {
      EXPECT_EQ(std::memcmp(o.Row<BF16>(t), right.Row<BF16>(t), o.cols * sizeof(BF16)), 0)
          << what << ": row " << t << " at " << places_[t].position << " of sequence " << places_[t].sequence;
    }
  }

  std::vector<std::vector<int32_t>> tables_;
  std::vector<RowPlace> places_;
  std::unique_ptr<OnDevice<uint8_t>> cache_;
  OwnedTensor selection_, queries_;
};

TEST_P(Sequences, HaveTheSameBitsFromBf16Keys) {
  const OwnedTensor right = AttendFromFp8();
  // They are numbers, where values are.
  for (int64_t t = 0; t < kRows; ++t) {
    if (places_[t].sequence == static_cast<int32_t>(kHuge)) continue;
    const auto* values = right.view().Row<BF16>(t);
    const auto numbers = std::count_if(values, values + heads() * kLatent, [](BF16 value) {
      return std::isfinite(ToFloat(value)) && ToFloat(value) != 0.0F;
    });
    ASSERT_GT(numbers, heads() * kLatent * 9 / 10) << "row " << t;
  }
  const Attended bf16 = Attend();
  EXPECT_EQ(bf16.launches, 2);
  ExpectSame(bf16.o, right, "all SMs");
  ops_->SetSmBudget({125});
  const Attended on_few = Attend();
  EXPECT_EQ(on_few.launches, 2);
  ExpectSame(on_few.o, right, "few SMs");
}

TEST_P(Sequences, AreReadAsFp8WhereRowsAreFewOrAttendToFew) {
  for (const auto& [rows, top_k] : {std::pair{int64_t{1}, kTopK}, {33, kTopK}, {kRows, 20}}) {
    const Attended some = Attend(rows, top_k);
    EXPECT_EQ(some.launches, 1) << rows << " rows, top " << top_k;
    ExpectSame(some.o, AttendFromFp8(rows, top_k), "some rows");
  }
}

TEST_P(Sequences, AreReadAsFp8WhereThereIsNoRoom) {
  // A long sequence; its pages come again and again.
  constexpr int64_t kPages = 490;
  std::vector<int32_t>& table = tables_[kLong];
  for (size_t i = 0; table.size() < kPages; ++i) table.push_back(table[i]);
  places_[2] = {kLong, kPages * kPageTokens - 1};
  const OwnedTensor right = AttendFromFp8();
  OpLimits limits;
  limits.places = limits.list = kRows;
  limits.sequences = std::ssize(kLengths);
  limits.positions = kPages * kPageTokens;
  limits.linear_inputs = 128;
  limits.top_k = limits.positions;  // no scores
  limits.vocabulary = 1000;
  ASSERT_LT(ReservedFor(limits, Sms()).workspace, kPages * kBf16PageBytes);
  for (const bool reserves : {false, true}) {
    ops_ = std::make_unique<CudaOps>(0);
    if (reserves) ops_->Reserve(limits);
    const Attended all = Attend();
    EXPECT_EQ(all.launches, reserves ? 1 : 2);
    ExpectSame(all.o, right, reserves ? "no room" : "room");
  }
}

// A decode row of a long sequence, some of short ones, then prompts.
TEST_P(Sequences, AreReadAsFp8WhereOthersAreBf16) {
  constexpr int64_t kPages = 2000;
  constexpr int64_t kDecodeRows = 10;
  std::vector<int32_t>& table = tables_[0];
  for (size_t i = 0; table.size() < kPages; ++i) table.push_back(table[i]);
  OwnedTensor selection(DType::kI32, kRows, kTopK);
  std::vector<int64_t> order(kRows);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](int64_t t) { return places_[t].sequence; });
  std::vector<RowPlace> places;
  for (int64_t t = 0; t < kRows; ++t) {
    places.push_back(places_[order[t]]);
    std::memcpy(selection.view().Row<int32_t>(t), selection_.view().Row<int32_t>(order[t]), kTopK * 4);
    // Their selections are position 0.
    if (places[t].sequence == 0) places[t] = {t < kDecodeRows ? 0 : 1, 0};
  }
  places[3].position = kPages * kPageTokens - 1;
  places_ = places;
  selection_ = std::move(selection);
  const Attended all = Attend();
  // It saves too little where heads are few.
  EXPECT_EQ(all.launches, heads() == 128 ? 3 : 1);
  ExpectSame(all.o, AttendFromFp8(), "behind decode rows");
}

INSTANTIATE_TEST_SUITE_P(Heads, Sequences, testing::Values(128, 64));

}  // namespace
}  // namespace sluice::ops::cuda
