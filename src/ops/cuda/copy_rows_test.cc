#include "ops/cuda/copy_rows.h"

#include "ops/cuda/device_rows.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops::cuda {
namespace {

class Copies : public OnGpu {};

struct Case {
  DType dtype;
  int64_t cols, in_gap, out_gap;
};

// Hidden rows, rows of the wire (7,424 bytes, and 788 = 656 + 132, of which 132 are copied), logits of a
// shard into a column range, single bytes at odd places.
TEST_F(Copies, AreTheBytes) {
  for (const Case& c :
       {Case{DType::kBF16, 7168, 0, 0}, Case{DType::kU8, 7424, 16, 32}, Case{DType::kU8, 132, 656, 0},
        Case{DType::kF32, 1616, 0, 6468}, Case{DType::kU8, 77, 1, 2}, Case{DType::kI32, 8, 0, 32}}) {
    constexpr int64_t kRows = 130;
    std::mt19937_64 random(2);
    OwnedTensor x(c.dtype, kRows, c.cols);
    for (int64_t i = 0; i < x.view().bytes(); ++i) {
      x.view().Row<uint8_t>(0)[i] = static_cast<uint8_t>(random());
    }
    std::vector<int64_t> source;
    for (int64_t i = 0; i < kRows; ++i) source.push_back(static_cast<int64_t>(random() % kRows));
    const Input on_x(x, c.in_gap);
    const OnDevice<int64_t> on_source(source);
    OwnedTensor truth(c.dtype, kRows, c.cols);
    MakeReferenceOps(Numerics::kFp8)->CopyRows(x, source, truth);
    for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{3}, kRows}) {
      const Output y(c.dtype, count, c.cols, c.out_gap);
      const int64_t element = SizeOf(c.dtype);
      Must(Enqueue(CopyRows{count, c.cols * element, on_x.Row(0), on_x.stride() * element, on_source.data(),
                            y.data(), y.stride_bytes()},
                   nullptr));
      ExpectEqualBits(y.Get(), truth.view().RowRange(0, count), std::string(NameOf(c.dtype)));
    }
  }
}

TEST_F(Copies, EmbedTokensOfAShard) {
  constexpr int64_t kRows = 130;
  constexpr int64_t kTokens = 300;
  constexpr int32_t kFirst = 64640;
  for (const int64_t width : {7168, 6144}) {
    std::mt19937_64 random(3);
    const OwnedTensor table = Random(random, DType::kBF16, kTokens, width, 1.0F);
    std::vector<int32_t> ids{kFirst, kFirst + kTokens - 1};
    while (std::ssize(ids) < kRows) ids.push_back(kFirst + static_cast<int32_t>(random() % kTokens));
    const Input on_table(table);
    const OnDevice<int32_t> on_ids(ids);
    Outputs truth;
    truth["rows"] = OwnedTensor(DType::kBF16, kRows, width);
    MakeReferenceOps(Numerics::kFp8)->Embed(table, kFirst, ids, truth["rows"]);
    const auto run = [&](int64_t first, int64_t count) {
      const Output y(DType::kBF16, count, width, 16);
      Must(Enqueue(Embed{count, width, on_table.Row(0), on_table.stride(), kFirst, on_ids.data() + first,
                         y.data(), y.stride()},
                   nullptr));
      Outputs out;
      out["rows"] = y.Get();
      return out;
    };
    ExpectRowsAreRight(run, truth, kRows, std::to_string(width));
    ExpectEqualBits(run(0, kRows)["rows"], truth["rows"], "nothing is rounded");
  }
}

}  // namespace
}  // namespace sluice::ops::cuda
