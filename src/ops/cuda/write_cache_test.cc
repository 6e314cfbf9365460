#include "ops/cuda/write_cache.h"

#include <algorithm>
#include <numeric>

#include "ops/cuda/device_rows.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops::cuda {
namespace {

constexpr int64_t kTokens = 300;  // of each sequence
constexpr int64_t kPages = (kTokens + kPageTokens - 1) / kPageTokens;
constexpr int64_t kSequences = 3;
constexpr int64_t kTableStride = kPages + 2;

class CacheWrites : public OnGpu {
 protected:
  // Places no two of which are the same, pages in any order.
  void SetUp() override {
    OnGpu::SetUp();
    std::mt19937 random(14);
    std::vector<int32_t> order(kSequences * kPages);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    table_.assign(kSequences * kTableStride, -1);
    for (int64_t s = 0; s < kSequences; ++s) {
      std::copy_n(order.begin() + s * kPages, kPages, table_.begin() + s * kTableStride);
      pages_.emplace_back(table_.data() + s * kTableStride, kPages);
    }
    std::vector<int32_t> all(kSequences * kTokens);
    std::iota(all.begin(), all.end(), 0);
    std::shuffle(all.begin(), all.end(), random);
    for (int64_t t = 0; t < 130; ++t) {
      places_.push_back({all[t] / static_cast<int32_t>(kTokens), all[t] % static_cast<int32_t>(kTokens)});
      sequences_.push_back(places_.back().sequence);
      positions_.push_back(places_.back().position);
    }
  }

  // Rows of `row_bytes`, `gap` bytes apart, written by `enqueue` and by `reference` into a cache; all of its
  // bytes are compared.
  template <typename EnqueueRows, typename Reference>
  void Compare(int64_t row_bytes, int64_t gap, const EnqueueRows& enqueue, const Reference& reference) const {
    std::mt19937 random(15);
    OwnedTensor rows(DType::kU8, 130, row_bytes);
    for (int64_t i = 0; i < rows.view().bytes(); ++i) {
      rows.view().Row<uint8_t>(0)[i] = static_cast<uint8_t>(random());
    }
    const Input on_rows(rows, gap);
    const OnDevice<int32_t> sequences(sequences_), positions(positions_), table(table_);
    for (const int64_t count : {0, 1, 3, 130}) {
      OwnedTensor truth(DType::kU8, kSequences * kPages, kPageTokens * row_bytes);
      std::memset(truth.view().data, 0xff, truth.view().bytes());
      const Output cache(DType::kU8, kSequences * kPages, kPageTokens * row_bytes);
      reference(rows.view().RowRange(0, count), std::span(places_).first(count), truth.view());
      CacheRows at;
      at.rows = count;
      at.source = on_rows.Row(0);
      at.source_stride = on_rows.stride();
      at.sequences = sequences.data();
      at.positions = positions.data();
      at.page_tables = table.data();
      at.table_stride = kTableStride;
      at.base = cache.data();
      Must(enqueue(at));
      ExpectEqualBits(cache.Get(), truth, std::to_string(count) + " rows of " + std::to_string(row_bytes));
    }
  }

  std::vector<int32_t> table_, sequences_, positions_;
  std::vector<PageTable> pages_;
  std::vector<RowPlace> places_;
};

TEST_F(CacheWrites, PutLatentsWhereTheReferenceDoes) {
  for (const CacheFormat format : {CacheFormat::kFp8, CacheFormat::kBf16}) {
    const int64_t row_bytes = LatentRowBytes(format, 512, 64);
    for (const int64_t gap : {0, 132}) {
      Compare(
          row_bytes, gap,
          [&](const CacheRows& at) {
            return Enqueue(WriteLatents{at, row_bytes}, nullptr);
          },
          [&](const Tensor& rows, std::span<const RowPlace> places, const Tensor& cache) {
            MakeReferenceOps(Numerics::kFp8)
                ->WriteLatents(rows, places, pages_, {cache.Row<std::byte>(0), format});
          });
    }
  }
}

TEST_F(CacheWrites, PutIndexKeysWhereTheReferenceDoes) {
  for (const int64_t gap : {0, 656}) {
    Compare(
        132, gap, [](const CacheRows& at) { return Enqueue(WriteIndexKeys{at}, nullptr); },
        [&](const Tensor& rows, std::span<const RowPlace> places, const Tensor& cache) {
          MakeReferenceOps(Numerics::kFp8)
              ->WriteIndexKeys(rows, places, pages_, {cache.Row<std::byte>(0), CacheFormat::kFp8});
        });
  }
}

}  // namespace
}  // namespace sluice::ops::cuda
