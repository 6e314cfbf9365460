#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>

#include "checkpoint/model_config.h"
#include "golden_checkpoint.h"
#include "golden_compare.h"
#include "golden_run.h"
#include "golden_vectors.h"
#include "model/shapes.h"
#include "ops/rope.h"

// The whole model on one rank against its oracles: Transformers in float64 for the exact mode, the float64
// simulation of every rounding point for the fp8 mode. README.md here.
namespace sluice::golden {
namespace {

constexpr int64_t kChunk = 300;  // rows per step; no multiple of a page

Vectors Load(const std::string& name) {
  return ReadVectors(std::filesystem::path(GOLDEN_DIR) / (name + ".safetensors"));
}

// Puts the vectors' set of a row in place of the engine's.
void Force(const Vectors& vectors, int64_t layer, int64_t row, std::span<int32_t> positions) {
  const std::vector<int32_t> set = vectors.Selection(layer, row);
  std::copy(set.begin(), set.end(), positions.begin());
  std::fill(positions.begin() + std::ssize(set), positions.end(), -1);
}

std::vector<LayerSelection> WatchLayers(const Vectors& vectors) {
  std::vector<LayerSelection> layers;
  for (int64_t layer = 0; layer < vectors.layers; ++layer) layers.emplace_back(vectors, layer);
  return layers;
}

// The first `rows` tokens in steps of kChunk; logits of the recorded rows among them.
std::vector<float> Prefill(OneRank& rank, const Vectors& vectors, int64_t rows,
                           const OneRank::OnSelection& on_selection) {
  std::vector<float> logits;
  for (int64_t begin = 0; begin < rows; begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, rows);
    std::vector<int64_t> wanted;
    for (const int32_t row : vectors.logit_rows) {
      if (row >= begin && row < end) wanted.push_back(row);
    }
    const auto part = rank.Feed(std::span(vectors.tokens).subspan(begin, end - begin), wanted, on_selection);
    logits.insert(logits.end(), part.begin(), part.end());
  }
  return logits;
}

class ExactMode : public testing::TestWithParam<const char*> {};

// Rows with a clear margin must choose the oracle's sets by themselves. The others are held to the margin,
// and the oracle's set is put in their place, so that what follows is comparable.
TEST_P(ExactMode, EqualsTransformersInFloat64) {
  const Vectors vectors = Load(std::string("exact_") + GetParam());
  OneRank rank(vectors, ops::Numerics::kExact, BackEnd::kCpu);
  std::vector<LayerSelection> layers = WatchLayers(vectors);
  const auto on_selection = [&](int64_t layer, int64_t row, std::span<int32_t> positions) {
    layers[layer].Add(row, positions);
    if (HasChoice(vectors, layer, row) && !IsClear(vectors, layer, row))
      Force(vectors, layer, row, positions);
  };

  const std::vector<float> logits = Prefill(rank, vectors, vectors.prompt_tokens, on_selection);
  const LogitsDistance distance = CompareLogits(logits, vectors.logits);
  fmt::print("{}: {} rows of logits, relative rms {:.1e}, p99 {:.1e}\n", vectors.name,
             vectors.logit_rows.size(), distance.relative_rms, distance.p99);
  EXPECT_LE(distance.relative_rms, kExactRelativeRms);

  // The last row of the prompt is among the recorded ones.
  ASSERT_EQ(vectors.logit_rows.back(), vectors.prompt_tokens - 1);
  std::vector<float> last(logits.end() - vectors.vocab, logits.end());
  for (int64_t row = vectors.prompt_tokens; row < vectors.rows(); ++row) {
    const auto token = static_cast<int32_t>(std::max_element(last.begin(), last.end()) - last.begin());
    ASSERT_EQ(token, vectors.tokens[row]) << "greedy token " << row - vectors.prompt_tokens;
    last = rank.Feed(std::span(&token, 1), std::vector<int64_t>{row}, on_selection);
  }

  int64_t choices = 0;
  int64_t clear = 0;
  for (int64_t index = 0; index < vectors.layers; ++index) {
    const LayerSelection& layer = layers[index];
    fmt::print("  {}\n", layer.Summary());
    EXPECT_EQ(layer.rows(), rank.config().HasIndexer(index) ? vectors.rows() : 0);
    EXPECT_EQ(layer.clear_changed(), 0);
    EXPECT_EQ(layer.forced_changed(), 0);
    EXPECT_LE(layer.unclear_regret(), kClearMargin);
    choices += layer.with_choice();
    clear += layer.clear();
  }
  fmt::print("  clear rows {} of {} = {:.3f} %\n", clear, choices,
             100.0 * static_cast<double>(clear) / static_cast<double>(choices));
  EXPECT_GE(static_cast<double>(clear), kClearShare * static_cast<double>(choices));
}

INSTANTIATE_TEST_SUITE_P(Models, ExactMode,
                         testing::Values("yarn40", "plain", "groups8", "wide_heads", "glm5", "glm52"),
                         [](const auto& model) { return std::string(model.param); });

struct Fp8Case {
  const char* name;
  BackEnd back_end;
  int64_t rows;  // of the prompt; the reference back end is slow
};
void PrintTo(const Fp8Case& model, std::ostream* out) { *out << model.name << ", " << model.rows << " rows"; }

class Fp8Mode : public testing::TestWithParam<Fp8Case> {};

TEST_P(Fp8Mode, EqualsTheSimulation) {
  const Vectors vectors = Load(std::string("fp8_") + GetParam().name);
  OneRank rank(vectors, ops::Numerics::kFp8, GetParam().back_end);
  std::vector<LayerSelection> layers = WatchLayers(vectors);
  const std::vector<float> logits =
      Prefill(rank, vectors, GetParam().rows, [&](int64_t layer, int64_t row, std::span<int32_t> positions) {
        layers[layer].Add(row, positions);
        Force(vectors, layer, row, positions);
      });
  const LogitsDistance distance = CompareLogits(logits, std::span(vectors.logits).first(logits.size()));
  fmt::print("{}: {} rows of logits, relative rms {:.1e}, p99 {:.1e}\n", vectors.name,
             std::ssize(logits) / vectors.vocab, distance.relative_rms, distance.p99);
  EXPECT_LE(distance.relative_rms, kFp8RelativeRms);
  EXPECT_LE(distance.p99, kFp8P99);
  for (int64_t layer = 0; layer < vectors.layers; ++layer) {
    fmt::print("  {}\n", layers[layer].Summary());
    EXPECT_EQ(layers[layer].rows(), GetParam().rows);
    EXPECT_EQ(layers[layer].forced_changed(), 0);
    if (layer == 0) {
      EXPECT_LE(layers[layer].strict_p99(), kFp8Regret);
    }
    EXPECT_LE(layers[layer].largest_mean(), layer == 0 ? kFp8Regret : kFp8DeepMeanRegret);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, Fp8Mode,
    testing::Values(Fp8Case{"dense", BackEnd::kCpu, 800}, Fp8Case{"moe", BackEnd::kCpu, 800},
                    Fp8Case{"glm", BackEnd::kCpu, 800}, Fp8Case{"plain", BackEnd::kCpu, 772},
                    Fp8Case{"stack", BackEnd::kCpu, 800}, Fp8Case{"moe", BackEnd::kReference, 200}),
    [](const auto& model) {
      return std::string(model.param.name) + (model.param.back_end == BackEnd::kCpu ? "_cpu" : "_reference");
    });

// Upstream computes the frequencies in fp32, operation by operation; so does the engine, to the last bit.
TEST(Rotary, FrequenciesAreUpstreams) {
  for (const char* name :
       {"exact_yarn40", "exact_plain", "exact_groups8", "exact_wide_heads", "exact_glm5", "exact_glm52"}) {
    const Vectors vectors = Load(name);
    const TemporaryDirectory directory;
    WriteConfig(vectors, directory.path());
    const auto config = checkpoint::ReadModelConfig(directory.path());
    const std::vector<float> ours = ops::InverseFrequencies(model::RopeScalingOf(config));
    ASSERT_EQ(ours.size(), vectors.inv_freq.size());
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(ours[i], vectors.inv_freq[i]) << name << " pair " << i;
    }
  }
}

}  // namespace
}  // namespace sluice::golden
