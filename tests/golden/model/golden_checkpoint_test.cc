#include "golden_checkpoint.h"

#include <gtest/gtest.h>

#include <bit>

#include "base/error.h"

namespace sluice::golden {
namespace {

// The right-hand sides are generator.py's.
TEST(GoldenCheckpoint, ValuesAreThoseOfTheScript) {
  const std::string line =
      "model.layers.0.self_attn.q_a_proj.weight F8_E4M3 2 130 256 00000000 3dddb3d7 32 5 8\n";
  const std::vector<TensorRule> rules = ParseTable(line);
  ASSERT_EQ(rules.size(), 1U);
  EXPECT_EQ(rules[0].dtype, DType::kF8E4M3);
  EXPECT_EQ(rules[0].shape, (std::vector<int64_t>{130, 256}));
  const std::vector<float> values = ValuesOf(rules[0], 20271);
  ASSERT_EQ(values.size(), 130U * 256U);
  const auto bits = [&](size_t i) { return std::bit_cast<uint32_t>(values[i]); };
  EXPECT_EQ(bits(0), 0xBBE4BA40U);
  EXPECT_EQ(bits(1), 0x3C288676U);
  EXPECT_EQ(bits(5 * 256), 0xBEBB2240U);
  EXPECT_EQ(bits(130 * 256 - 1), 0x3AFF7B89U);
}

TEST(GoldenCheckpoint, RefusesALineItCannotRead) {
  EXPECT_THROW(ParseTable("model.norm.weight F32 1 256 3f800000\n"), Error);
  EXPECT_THROW(ParseTable("model.norm.weight F64 1 256 3f800000 00000000 0 0 1\n"), Error);
}

}  // namespace
}  // namespace sluice::golden
