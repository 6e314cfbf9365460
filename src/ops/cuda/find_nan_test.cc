#include "ops/cuda/find_nan.h"

#include <random>

#include "ops/cuda/device.h"
#include "ops/cuda/on_device.h"
#include "ops/cuda/packed_weights.h"

namespace sluice::ops::cuda {
namespace {

class FindNaNTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasGpu()) GTEST_SKIP() << "no GPU";
  }
  static uint64_t First(const std::vector<uint8_t>& codes) {
    const OnDevice<uint8_t> on_device(codes);
    const OnDevice<uint64_t> first(std::vector<uint64_t>{~uint64_t{0}});
    Must(Enqueue(FindNaN{on_device.data(), static_cast<int64_t>(codes.size()), first.data()}, nullptr));
    return first.Get().front();
  }
};

// Every code but the two NaNs, many times over.
std::vector<uint8_t> Codes(size_t count) {
  std::mt19937 random(7);
  std::vector<uint8_t> codes(count);
  for (uint8_t& code : codes) {
    do code = static_cast<uint8_t>(random());
    while ((code & 0x7f) == 0x7f);
  }
  return codes;
}

TEST_F(FindNaNTest, NamesTheFirst) {
  // The last size: more than all blocks read in one go.
  for (const size_t count :
       {size_t{1}, size_t{15}, size_t{16}, size_t{4099}, (size_t{4096} * 256 + 3) * 16 + 5}) {
    std::vector<uint8_t> codes = Codes(count);
    EXPECT_EQ(First(codes), ~uint64_t{0}) << count;
    for (const uint8_t nan : {uint8_t{0x7f}, uint8_t{0xff}}) {
      for (const size_t at : {count - 1, count / 2, size_t{0}}) {
        codes[at] = nan;
        EXPECT_EQ(First(codes), at) << count;
      }
      codes = Codes(count);
    }
  }
}

TEST_F(FindNaNTest, AWeightWithOneIsRefusedByItsPlace) {
  constexpr int64_t kRows = 130;
  constexpr int64_t kCols = 144;
  const std::vector<float> scales(4, 1.0F);
  const std::vector<uint8_t> good = Codes(kRows * kCols);
  std::vector<uint8_t> bad = good;
  bad[129 * kCols + 143] = 0xff;
  const auto raw = [&](const std::vector<uint8_t>& codes) {
    return RawMatrix{DType::kF8E4M3, kRows, kCols, codes.data(), scales.data()};
  };
  const std::vector<RawMatrix> group{raw(good), raw(bad)};
  Upload upload(DeviceMemory(0), 2);
  EXPECT_NO_THROW(PackedWeights(std::span(group).first(1), DeviceMemory(0), upload));
  try {
    const PackedWeights packed(group, DeviceMemory(0), upload);
    ADD_FAILURE() << "taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kModelFiles);
    EXPECT_STREQ(error.what(),
                 "an FP8 weight of 130 x 144 holds NaN at row 129, column 143; the file is damaged, fetch it "
                 "again");
  }
}

}  // namespace
}  // namespace sluice::ops::cuda
