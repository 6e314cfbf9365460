#include "model/activation_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <thread>

#include "base/compute_pool.h"
#include "checkpoint/checkpoint.h"
#include "comm/thread_world.h"
#include "model/stage_model.h"
#include "ops/cpu/cpu_ops.h"
#include "tensor/counter_random.h"

namespace sluice::model {
namespace {

// At least so much of the bound is used by a pass whose rows and experts are dealt evenly, or that is as bad
// as it says.
constexpr double kUsed = 0.6;

struct Layout {
  int lanes = 1;
  int attn_tp = 1;
  int owners = 1;
  bool dense_tp = false;
  parallel::SplitMode split = parallel::SplitMode::kInterleave;
};

// Steps on every lane of a stage that is the whole model; what they took of their arenas.
class Stage {
 public:
  Stage(const checkpoint::Checkpoint& checkpoint, const Layout& layout, ops::CacheFormat format)
      : checkpoint_(checkpoint), layout_(layout), format_(format), pool_(0) {}

  // Of each lane, and there of each step: first as the router has it, then once more with every row choosing
  // the experts of the lowest numbers.
  std::vector<std::vector<int64_t>> Peaks(const std::vector<step::Step>& steps) {
    auto world = comm::MakeThreadWorld(layout_.lanes, std::chrono::seconds(30));
    std::vector<std::vector<int64_t>> peaks(static_cast<size_t>(layout_.lanes));
    std::vector<std::thread> threads;
    for (int lane = 0; lane < layout_.lanes; ++lane) {
      threads.emplace_back([&, lane] { peaks[lane] = PeaksOf(steps, lane, *world[lane]); });
    }
    for (std::thread& thread : threads) thread.join();
    return peaks;
  }

  int64_t Bound(const step::Step& step, int lane) const {
    const step::StepLimits limits{step.rows(), std::ssize(step.sequences), 4096};
    PassLimits pass = LargestPass(limits, layout_.lanes, layout_.split);
    pass.fp8_experts = fp8_experts();
    return ActivationBytes(checkpoint_.config(), numerics(), format_, SliceOf(lane), pass);
  }
  // As a plan knows it, before anything is loaded.
  bool fp8_experts() const {
    return std::ranges::all_of(Fp8Experts(checkpoint_, numerics()), std::identity());
  }

 private:
  ops::Numerics numerics() const {
    return format_ == ops::CacheFormat::kF32 ? ops::Numerics::kExact : ops::Numerics::kFp8;
  }
  StageSlice SliceOf(int lane) const {
    return {{{0, checkpoint_.config().num_hidden_layers}},
            lane,
            layout_.lanes,
            layout_.attn_tp,
            layout_.owners,
            layout_.dense_tp};
  }
  std::vector<int64_t> PeaksOf(const std::vector<step::Step>& steps, int lane, comm::Communicator& world) {
    const auto ops = ops::MakeCpuOps(numerics(), pool_);
    StageWeights weights = LoadStage(checkpoint_, *ops, SliceOf(lane));
    std::vector<Tensor> biases;
    for (const LayerWeights& layer : weights.layers) {
      if (layer.moe) biases.push_back(layer.moe->e_score_correction_bias);
    }
    StageModel stage(checkpoint_.config(), SliceOf(lane), std::move(weights), format_, /*cache_pages=*/64);
    EXPECT_EQ(stage.fp8_experts(), fp8_experts());
    std::vector<int> of_heads;
    for (int member = 0; member < layout_.attn_tp; ++member) {
      of_heads.push_back(lane / layout_.attn_tp * layout_.attn_tp + member);
    }
    const auto heads = layout_.attn_tp > 1 ? world.Subgroup(of_heads) : nullptr;
    std::vector<int64_t> peaks;
    const auto run = [&] {
      for (const step::Step& step : steps) {
        Arena arena;
        const Pass pass(step, world, heads.get(), layout_.split, *ops, arena);
        const OwnedTensor x(ops::ActivationType(numerics()), pass.rows(), stage.hidden_size());
        stage.Embed(pass, x);
        stage.Layers(pass, 0, x);
        stage.Head(pass, x, WantedRows(step), [](int64_t, const Tensor&) {});
        peaks.push_back(arena.peak_bytes());
      }
    };
    run();
    world.Barrier("all lanes have run");
    for (const Tensor& bias : biases) {
      for (int64_t expert = 0; expert < bias.cols; ++expert) {
        bias.At<float>(0, expert) = static_cast<float>(bias.cols - expert);
      }
    }
    run();
    return peaks;
  }

  const checkpoint::Checkpoint& checkpoint_;
  const Layout layout_;
  const ops::CacheFormat format_;
  ComputePool pool_;
};

// Prompts of these lengths, tokens below `tokens`.
step::Step StepOf(const std::vector<int64_t>& lengths, uint64_t tokens, bool logits) {
  step::Step step;
  int32_t page = 0;
  for (size_t s = 0; s < lengths.size(); ++s) {
    step::StepSequence& sequence = step.sequences.emplace_back();
    sequence.sequence = s;
    for (int64_t i = 0; i < lengths[s]; ++i) {
      if (i % ops::kPageTokens == 0) sequence.pages.push_back(page++);
      sequence.tokens.push_back(static_cast<int32_t>(SplitMix64(s * 1000 + i) % tokens));
    }
    sequence.sample = true;
    sequence.return_logits = logits;
  }
  return step;
}

std::vector<Layout> Layouts() {
  using enum parallel::SplitMode;
  return {{}, {2, 1, 2}, {2, 2, 2, true}, {3, 1, 1, false, kZigzag}, {4, 2, 3, true, kZigzag}, {4, 1, 4}};
}

// A model and which part of its passes takes the most.
struct Case {
  const char* name;
  const char* model;
  ops::CacheFormat format;
};
std::vector<Case> Cases() {
  using enum ops::CacheFormat;
  return {
      {"attention", "random:tiny?hidden=128&layers=2&vocab=300&dtype=f32", kF32},
      {"attention_fp8", "random:tiny?hidden=128&layers=2&vocab=300&dtype=fp8", kFp8},
      {"attention_bf16_cache", "random:tiny?hidden=128&layers=2&vocab=300&dtype=fp8", kBf16},
      {"experts", "random:tiny?hidden=512&layers=2&heads=4&vocab=300&dtype=f32", kF32},
      {"experts_fp8", "random:tiny?hidden=512&layers=2&heads=4&vocab=300&dtype=fp8", kFp8},
      {"dense", "random:tiny?hidden=128&layers=1&intermediate_size=8192&vocab=300&dtype=fp8", kFp8},
      {"shared",
       "random:glm-5.2-78?hidden=128&layers=4&vocab=300&index_topk_freq=2&index_skip_topk_offset=1&dtype=fp8",
       kFp8},
      {"head", "random:tiny?hidden=128&layers=1&vocab=12000&dtype=fp8", kFp8}};
}

class ActivationBytesTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { checkpoint_ = checkpoint::Checkpoint::Open(GetParam().model); }
  std::unique_ptr<checkpoint::Checkpoint> checkpoint_;
};

TEST_P(ActivationBytesTest, NoPassTakesMore) {
  const std::vector<step::Step> steps = {
      StepOf({80}, 300, true), StepOf({1}, 300, false), StepOf({1, 3, 60, 1, 7, 1, 1, 40}, 300, false),
      StepOf({180}, 300, false), StepOf(std::vector<int64_t>(20, 1), 300, true)};
  for (const Layout& layout : Layouts()) {
    Stage stage(*checkpoint_, layout, GetParam().format);
    const auto peaks = stage.Peaks(steps);
    for (int lane = 0; lane < layout.lanes; ++lane) {
      for (size_t run = 0; run < 2 * steps.size(); ++run) {
        const step::Step& step = steps[run % steps.size()];
        EXPECT_LE(peaks[lane][run], stage.Bound(step, lane))
            << "lane " << lane << " of " << layout.lanes << ", run " << run << " of " << step.rows()
            << " rows";
      }
    }
  }
}

TEST_P(ActivationBytesTest, MostOfItIsUsedOnOneLane) {
  Stage stage(*checkpoint_, {}, GetParam().format);
  const step::Step step = StepOf({300}, 300, true);
  EXPECT_GE(static_cast<double>(stage.Peaks({step})[0][0]),
            kUsed * static_cast<double>(stage.Bound(step, 0)));
}

TEST_P(ActivationBytesTest, MostOfItIsUsedWhereTheRouterChoosesOneLanesExperts) {
  Stage stage(*checkpoint_, {2, 1, 2}, GetParam().format);
  const step::Step step = StepOf({300}, 150, true);
  EXPECT_GE(static_cast<double>(stage.Peaks({step})[0][1]),
            kUsed * static_cast<double>(stage.Bound(step, 0)));
}

// Most of what a lane takes are rows of its experts, and an FP8 row is half as long as one of bf16.
TEST(ActivationBytes, RowsForExpertsOfFp8AreCountedAsTheyTravel) {
  const auto checkpoint = checkpoint::Checkpoint::Open("random:v3.2?layers=4&dense=1");
  const auto& config = checkpoint->config();
  const auto fp8 = Fp8Experts(*checkpoint, ops::Numerics::kFp8);
  EXPECT_THAT(fp8, testing::Each(true));
  EXPECT_EQ(Fp8Experts(*checkpoint, ops::Numerics::kExact), (std::vector<bool>{true, false, false, false}));
  StageSlice slice;
  slice.layers = {{0, 4}};
  slice.lanes = slice.expert_owners = 8;
  slice.first = slice.last = false;
  PassLimits limits = LargestPass({8192, 1, 65536}, 8, parallel::SplitMode::kInterleave);
  const auto bytes = [&](bool fp8_experts) {
    limits.fp8_experts = fp8_experts;
    return ActivationBytes(config, ops::Numerics::kFp8, ops::CacheFormat::kFp8, slice, limits);
  };
  // 1,024 rows to 8 owners each, 8,192 that arrive, 65,536 pairs of a row and an expert.
  const int64_t rows = 8 * 1024 + 8192 + 65536;
  EXPECT_EQ(bytes(false) - bytes(true),
            rows * (2 * config.hidden_size - ops::QuantizedRowBytes(config.hidden_size)));
  const auto inputs = [&](bool fp8_experts) {
    limits.fp8_experts = fp8_experts;
    return OpLimitsOf(config, slice, limits).linear_inputs;
  };
  EXPECT_EQ(inputs(false), 65536 * config.hidden_size);
  EXPECT_EQ(inputs(true), 1024 * config.num_attention_heads * config.v_head_dim);
}

INSTANTIATE_TEST_SUITE_P(Models, ActivationBytesTest, testing::ValuesIn(Cases()),
                         [](const auto& suite) { return suite.param.name; });

}  // namespace
}  // namespace sluice::model
