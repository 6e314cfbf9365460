#include "ops/cuda/add.h"

#include "ops/cuda/device_rows.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops::cuda {
namespace {

class AddRows : public OnGpu {};

TEST_F(AddRows, AreThoseOfTheReference) {
  for (const int64_t width : {7168, 6144, 8}) {
    constexpr int64_t kRows = 130;
    std::mt19937_64 random(1);
    const OwnedTensor x = Random(random, DType::kBF16, kRows, width, 1.0F);
    const OwnedTensor y = Random(random, DType::kBF16, kRows, width, 3.0F);
    const Input on_x(x, 32);
    Outputs truth;
    truth["sum"] = OwnedTensor(DType::kBF16, kRows, width);
    std::memcpy(truth["sum"].view().data, y.view().data, y.view().bytes());
    MakeReferenceOps(Numerics::kFp8)->Add(x, truth["sum"]);
    const auto run = [&](int64_t first, int64_t count) {
      const Output sum(y.view().RowRange(first, count), 64);
      Must(Enqueue(Add{count, width, on_x.Row(first), on_x.stride(), sum.data(), sum.stride()}, nullptr));
      Outputs out;
      out["sum"] = sum.Get();
      return out;
    };
    ExpectRowsAreRight(run, truth, kRows, std::to_string(width));
    ExpectEqualBits(run(0, kRows)["sum"], truth["sum"], "one rounding");
  }
}

TEST_F(AddRows, RefuseWhatIsNotAligned) {
  const OnDevice<uint16_t> rows(std::vector<uint16_t>(64));
  EXPECT_EQ(Enqueue(Add{1, 12, rows.data(), 16, rows.data(), 16}, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(Enqueue(Add{1, 8, rows.data() + 1, 16, rows.data(), 16}, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(Enqueue(Add{1, 8, rows.data(), 16, rows.data(), 12}, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace sluice::ops::cuda
