#include "checkpoint/random_weights.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "checkpoint/checkpoint.h"
#include "checkpoint/test_support.h"

namespace sluice::checkpoint {
namespace {

// From random_weights_golden.py.
struct Golden {
  uint64_t seed;
  const char* name;
  int64_t index;
  uint32_t fp32_bits;
  uint16_t bf16_bits;
};
constexpr Golden kGolden[] = {
    {0x0U, "lm_head.weight", 0, 0xbda548a1, 0xbda5},
    {0x0U, "lm_head.weight", 1, 0x3dbf0f73, 0x3dbf},
    {0x0U, "lm_head.weight", 262143, 0x3da710bb, 0x3da7},
    {0x1U, "lm_head.weight", 0, 0x3d8794c7, 0x3d88},
    {0x0U, "model.embed_tokens.weight", 5, 0x3efcba4c, 0x3efd},
    {0x7U, "model.norm.weight", 200, 0x3f7c22cb, 0x3f7c},
    {0x7U, "model.layers.2.self_attn.indexer.k_norm.bias", 127, 0xbd88aaed, 0xbd89},
    {0x7U, "model.layers.3.mlp.gate.e_score_correction_bias", 15, 0x3d8e70f8, 0x3d8e},
    {0xffffffffffffffffU, "model.layers.60.mlp.experts.15.down_proj.weight", 8589934593, 0xbd546d24, 0xbd54},
};

TensorSpec SpecOf(const std::string& name) {
  if (name == "lm_head.weight") return {name, TensorKind::kKeptLinear, {1024, 256}};
  if (name == "model.embed_tokens.weight") return {name, TensorKind::kEmbedding, {1024, 256}};
  if (name == "model.norm.weight") return {name, TensorKind::kNorm, {256}};
  if (name.ends_with("k_norm.bias")) return {name, TensorKind::kNormBias, {128}};
  if (name.ends_with("correction_bias")) return {name, TensorKind::kRouterBias, {16}};
  return {name, TensorKind::kLinear, {int64_t{1} << 27, 128}};
}

RandomModel WithSeed(uint64_t seed) {
  RandomModel model;
  model.seed = seed;
  return model;
}

TEST(RandomWeights, EqualTheGoldenValues) {
  for (const Golden& golden : kGolden) {
    const RandomMatrix tensor = MatrixOf(SpecOf(golden.name), WithSeed(golden.seed));
    const float value = tensor.At(golden.index / tensor.cols, golden.index % tensor.cols);
    EXPECT_EQ(std::bit_cast<uint32_t>(value), golden.fp32_bits) << golden.name << " " << golden.index;
    EXPECT_EQ(ToBF16(value).bits, golden.bf16_bits) << golden.name << " " << golden.index;
  }
}

TEST(RandomWeights, HaveTheVarianceTheirUseWants) {
  const auto deviation = [](const TensorSpec& spec) {
    const RandomMatrix tensor = MatrixOf(spec, WithSeed(11));
    double sum = 0.0;
    double squares = 0.0;
    for (int64_t i = 0; i < tensor.rows * tensor.cols; ++i) {
      const double value = tensor.At(i / tensor.cols, i % tensor.cols);
      sum += value;
      squares += value * value;
    }
    const auto n = static_cast<double>(tensor.rows * tensor.cols);
    return std::pair(sum / n, std::sqrt(squares / n - sum / n * sum / n));
  };
  EXPECT_NEAR(deviation({"a.weight", TensorKind::kLinear, {512, 256}}).second, 1.0 / 16.0, 2e-4);
  EXPECT_NEAR(deviation({"e.weight", TensorKind::kEmbedding, {512, 256}}).second, 1.0, 4e-3);
  EXPECT_NEAR(deviation({"n.weight", TensorKind::kNorm, {100'000}}).first, 1.0, 2e-3);
  EXPECT_NEAR(deviation({"n.weight", TensorKind::kNorm, {100'000}}).second, 0.17 / std::sqrt(3.0), 2e-3);
}

TEST(RandomWeights, TheGainIsOnTheEmbeddingAlone) {
  RandomModel louder = WithSeed(2);
  louder.embedding_gain = 16.0;
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"}) {
    const TensorSpec spec = SpecOf(name);
    const float gain = spec.kind == TensorKind::kEmbedding ? 16.0F : 1.0F;
    for (int64_t i = 0; i < 256; ++i) {
      ASSERT_EQ(MatrixOf(spec, louder).At(0, i), gain * MatrixOf(spec, WithSeed(2)).At(0, i)) << name;
    }
  }
}

// The nearest e4m3 value by search over all of them, even code on a tie.
uint8_t NearestE4M3(float value) {
  uint8_t best = 0;
  double best_distance = 1e9;
  for (int code = 0; code < 0x7f; ++code) {
    const int exponent = code >> 3;
    const double magnitude =
        exponent == 0 ? (code & 7) * 0x1p-9 : (8 + (code & 7)) * std::pow(2.0, exponent - 10);
    const double distance = std::fabs(magnitude - std::fabs(static_cast<double>(value)));
    if (distance < best_distance || (distance == best_distance && code % 2 == 0)) {
      best = static_cast<uint8_t>(code);
      best_distance = distance;
    }
  }
  return static_cast<uint8_t>(best | (std::signbit(value) ? 0x80 : 0));
}

class MadeFp8Checkpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    MakeOptions options;
    options.format = WeightFormat::kFp8;
    options.seed = 3;
    options.config_overrides = {"num_hidden_layers=1", "hidden_size=200", "vocab_size=300"};
    MakeCheckpoint(directory_.path(), options, PlanCheckpoint(options), nullptr);
    checkpoint_ = Checkpoint::Open(directory_.path());
  }
  TempDirectory directory_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

// Edge blocks included: 576 rows and 200 columns are no multiples of 128.
TEST_F(MadeFp8Checkpoint, BlockQuantisationEqualsTheGoldenBytes) {
  const std::string name = "model.layers.0.self_attn.kv_a_proj_with_mqa.weight";
  const StoredTensor codes = checkpoint_->Get(name);
  const StoredTensor scales = checkpoint_->Get(ScaleName(name));
  ASSERT_EQ(codes.shape, (std::vector<int64_t>{576, 200}));
  ASSERT_EQ(scales.shape, (std::vector<int64_t>{5, 2}));
  const auto text = [](const StoredTensor& tensor) {
    return std::string_view(reinterpret_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes));
  };
  EXPECT_EQ(Fnv1a64(text(codes)), 0x8f7924215d1971aaU);
  EXPECT_EQ(Fnv1a64(text(scales)), 0x711925f53f08b405U);
}

TEST_F(MadeFp8Checkpoint, EveryBlockUsesTheSmallestPowerOfTwoAndTheNearestCode) {
  for (const TensorSpec& spec : TensorsOf(checkpoint_->config(), WholeModel(checkpoint_->config()))) {
    if (spec.kind != TensorKind::kLinear || spec.shape[0] * spec.shape[1] > 200'000) continue;
    const RandomMatrix values = MatrixOf(spec, WithSeed(3));
    const StoredTensor codes = checkpoint_->Get(spec.name);
    const StoredTensor scales = checkpoint_->Get(ScaleName(spec.name));
    const int64_t block_cols = scales.shape[1];
    for (int64_t block = 0; block < scales.shape[0] * block_cols; ++block) {
      float scale = 0.0F;
      std::memcpy(&scale, scales.data + block * 4, 4);
      float amax = 0.0F;
      const int64_t row_begin = block / block_cols * 128;
      const int64_t col_begin = block % block_cols * 128;
      for (int64_t row = row_begin; row < std::min(row_begin + 128, spec.shape[0]); ++row) {
        for (int64_t col = col_begin; col < std::min(col_begin + 128, spec.shape[1]); ++col) {
          const float value = values.At(row, col);
          amax = std::max(amax, std::fabs(value));
          // Every seventh is enough: the search is slow.
          if ((row * 31 + col) % 7 != 0) continue;
          const auto code = static_cast<uint8_t>(codes.data[row * spec.shape[1] + col]);
          ASSERT_EQ(code, NearestE4M3(value / scale)) << spec.name << " " << row << " " << col;
        }
      }
      int exponent = 0;
      ASSERT_EQ(std::frexp(scale, &exponent), 0.5F);
      ASSERT_LE(amax, 448.0F * scale) << spec.name;
      ASSERT_GT(amax, 224.0F * scale) << spec.name;
    }
  }
}

}  // namespace
}  // namespace sluice::checkpoint
