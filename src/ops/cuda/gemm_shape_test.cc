#include "ops/cuda/gemm_shape.h"

#include <gtest/gtest.h>

namespace sluice::ops::cuda {
namespace {

constexpr int kSms = 132;  // of an H200

TileShape Chosen(int64_t rows, int64_t outputs, int64_t inputs, int sms) {
  Gemm gemm;
  gemm.rows = rows;
  gemm.outputs = outputs;
  gemm.inputs = inputs;
  return kTileShapes[ChooseShape(gemm, sms, kSms)];
}

// 64 tiles of 256 x 256 are one round of 66 pairs of SMs. Four SMs that are left alone may be of four pairs,
// and with 62 it is two rounds, which smaller tiles on 128 SMs take less time for.
TEST(GemmShape, CountsOnNoClusterOfWhichAnSmMayBeHeld) {
  EXPECT_TRUE(Chosen(1024, 4096, 7168, kSms).clustered());
  EXPECT_TRUE(Chosen(1024, 4096, 7168, kSms - 2).clustered());
  EXPECT_FALSE(Chosen(1024, 4096, 7168, kSms - 4).clustered());
}

// 256 tiles are four rounds of 62 pairs and eight tiles, which a launch of 64 pairs does not cut.
TEST(GemmShape, CountsOnNoCutThatTheLaunchDoesNotMake) {
  EXPECT_TRUE(Chosen(4096, 4096, 7168, kSms).clustered());
  EXPECT_FALSE(Chosen(4096, 4096, 7168, kSms - 4).clustered());
}

TEST(GemmShape, TakesNoClustersWhereAllMayBeHeld) {
  for (const int sms : {1, 2, 7, kSms / 2}) EXPECT_FALSE(Chosen(4096, 4096, 7168, sms).clustered()) << sms;
}

// 2,112 outputs are 11 tiles of 192, of 256 they are 8 and one that is mostly empty.
TEST(GemmShape, TakesTilesThatTheOutputsFill) {
  EXPECT_EQ(Chosen(4096, 2112, 7168, kSms).outputs(), 192);
  EXPECT_EQ(Chosen(4096, 4096, 7168, kSms).all_outputs(), 256);
}

TEST(GemmShape, TakesTheSmallestTilesForOneRow) {
  EXPECT_EQ(Chosen(1, 2112, 7168, kSms).rows(), 64);
  EXPECT_EQ(Chosen(1, 2112, 7168, kSms).outputs(), 16);
}

}  // namespace
}  // namespace sluice::ops::cuda
