#include "model/partial_sum.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/compute_pool.h"
#include "checkpoint/checkpoint_maker.h"
#include "comm/thread_world.h"
#include "model/relative_rms.h"
#include "model/shapes.h"
#include "model/stage_model.h"
#include "ops/cpu/cpu_ops.h"
#include "tensor/counter_random.h"

namespace sluice::model {
namespace {

constexpr Duration kLimit = std::chrono::seconds(30);

step::Step PromptStep(int64_t rows) {
  step::Step step;
  step::StepSequence& sequence = step.sequences.emplace_back();
  for (int64_t i = 0; i < rows; ++i) sequence.tokens.push_back(static_cast<int32_t>(SplitMix64(i) % 300));
  for (int64_t page = 0; page * ops::kPageTokens < rows; ++page)
    sequence.pages.push_back(static_cast<int32_t>(page));
  sequence.return_logits = true;
  return step;
}

void OnLanes(int lanes, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  threads.reserve(lanes);
  for (int lane = 0; lane < lanes; ++lane) threads.emplace_back(body, lane);
  for (std::thread& thread : threads) thread.join();
}

// Shares whose sum depends on the order: only the order of the ranks gives what plain fp32 code gives.
TEST(SumOverRanks, AddsInTheOrderOfTheRanksAndRoundsOnce) {
  constexpr int kLanes = 4;
  constexpr int64_t kCols = 3;
  constexpr float kShares[kLanes] = {1.0F, 1e8F, -1e8F, 3.0F};
  auto world = comm::MakeThreadWorld(kLanes, kLimit);
  ComputePool pool(0);
  const step::Step step = PromptStep(6);  // two lanes have two rows, two have one
  for (const auto numerics : {ops::Numerics::kExact, ops::Numerics::kFp8}) {
    OnLanes(kLanes, [&](int lane) {
      const auto ops = ops::MakeCpuOps(numerics, pool);
      Arena arena;
      const Pass pass(step, *world[lane], nullptr, parallel::SplitMode::kInterleave, *ops, arena);
      const Tensor partial = pass.New(DType::kF32, 6, kCols);
      for (int64_t row = 0; row < 6; ++row) {
        for (int64_t c = 0; c < kCols; ++c) {
          partial.At<float>(row, c) = kShares[lane] + static_cast<float>(row * lane + c) * 0.125F;
        }
      }
      const Tensor sum = SumOverRanks(pass, *world[lane], "sum", partial, pass.RowsOfLanes());
      ASSERT_EQ(sum.rows, pass.rows());
      const int64_t first = lane < 2 ? 2 * lane : lane + 2;  // of this lane's rows in lane order
      for (int64_t row = 0; row < sum.rows; ++row) {
        for (int64_t c = 0; c < kCols; ++c) {
          float want = 0.0F;
          for (int share = 0; share < kLanes; ++share) {
            want += kShares[share] + static_cast<float>((first + row) * share + c) * 0.125F;
          }
          if (numerics == ops::Numerics::kFp8) want = RoundToBF16(want);
          EXPECT_EQ(LoadFloat(sum, row, c), want) << "lane " << lane << " row " << row;
        }
      }
    });
  }
}

// A model of one dense layer: no expert and, up to index_topk keys, no selection for a last bit to decide.
class CutSums : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-cut-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    checkpoint::MakeOptions options;
    options.preset = "tiny";
    options.format = GetParam() ? checkpoint::WeightFormat::kFp8 : checkpoint::WeightFormat::kF32;
    options.config_overrides = {"hidden_size=256", "num_hidden_layers=1", "num_attention_heads=8",
                                "vocab_size=300", "intermediate_size=640"};
    checkpoint::MakeCheckpoint(directory_ / "model", options, checkpoint::PlanCheckpoint(options), {});
    if (GetParam()) MakeScalesDiffer();
    checkpoint_ = checkpoint::Checkpoint::Open(directory_ / "model");
  }
  // A made checkpoint's scales are mostly equal, which would hide a block that got another's.
  void MakeScalesDiffer() {
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "model")) {
      if (entry.path().extension() != ".safetensors") continue;
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      uint64_t header_bytes = 0;
      file.read(reinterpret_cast<char*>(&header_bytes), sizeof(header_bytes));
      std::string header(header_bytes, ' ');
      file.read(header.data(), static_cast<std::streamsize>(header_bytes));
      const auto tensors = nlohmann::json::parse(header);
      for (const auto& [name, tensor] : tensors.items()) {
        if (!name.ends_with("_scale_inv")) continue;
        const auto begin = tensor.at("data_offsets").at(0).get<int64_t>();
        std::vector<float> scales((tensor.at("data_offsets").at(1).get<int64_t>() - begin) / sizeof(float));
        const auto at = static_cast<std::streamoff>(sizeof(header_bytes) + header_bytes) + begin;
        file.seekg(at);
        file.read(reinterpret_cast<char*>(scales.data()), std::ssize(scales) * sizeof(float));
        for (size_t i = 0; i < scales.size(); ++i) scales[i] *= std::exp2(static_cast<float>(i % 5) - 2.0F);
        file.seekp(at);
        file.write(reinterpret_cast<const char*>(scales.data()), std::ssize(scales) * sizeof(float));
      }
    }
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::vector<float> Logits(int lanes, int attn_tp, bool dense_tp) {
    const auto& config = checkpoint_->config();
    auto world = comm::MakeThreadWorld(lanes, kLimit);
    const step::Step step = PromptStep(60);
    ComputePool pool(1);
    std::vector<float> logits;
    OnLanes(lanes, [&](int lane) {
      const auto ops = ops::MakeCpuOps(GetParam() ? ops::Numerics::kFp8 : ops::Numerics::kExact, pool);
      StageSlice slice;
      slice.layers = {{0, 1}};
      slice.lane = lane;
      slice.lanes = lanes;
      slice.attn_tp = attn_tp;
      slice.dense_tp = dense_tp;
      StageModel stage(config, slice, LoadStage(*checkpoint_, *ops, slice), CacheFormatOf(ops->numerics()),
                       2);
      std::unique_ptr<comm::Communicator> heads;
      if (attn_tp > 1) {
        std::vector<int> members;
        for (int shard = 0; shard < attn_tp; ++shard) members.push_back(lane / attn_tp * attn_tp + shard);
        heads = world[lane]->Subgroup(members);
      }
      Arena arena;
      const Pass pass(step, *world[lane], heads.get(), parallel::SplitMode::kInterleave, *ops, arena);
      const Tensor x = pass.NewActivation(pass.rows(), config.hidden_size);
      stage.Embed(pass, x);
      stage.Layers(pass, 0, x);
      stage.Head(pass, x, WantedRows(step), [&](int64_t, const Tensor& slab) {
        logits.insert(logits.end(), slab.Row<float>(0), slab.Row<float>(slab.rows));
      });
    });
    return logits;
  }

  std::filesystem::path directory_;
  std::unique_ptr<checkpoint::Checkpoint> checkpoint_;
};

TEST_P(CutSums, DifferFromTheWholeSumByRoundingAlone) {
  const double bound = GetParam() ? 5e-3 : 2e-6;
  const std::vector<float> whole = Logits(1, 1, false);
  for (const auto& [lanes, attn_tp, dense_tp] :
       {std::tuple(2, 2, false), std::tuple(4, 4, false), std::tuple(4, 2, false), std::tuple(3, 1, true),
        std::tuple(2, 2, true)}) {
    const std::vector<float> cut = Logits(lanes, attn_tp, dense_tp);
    ASSERT_EQ(cut.size(), whole.size());
    const double distance = RelativeRms(cut, whole);
    EXPECT_LE(distance, bound) << lanes << " lanes, attn_tp " << attn_tp << ", dense_tp " << dense_tp;
    EXPECT_TRUE(GetParam() || distance > 0.0) << "was the sum cut at all?";
  }
}

INSTANTIATE_TEST_SUITE_P(Numerics, CutSums, testing::Bool(),
                         [](const auto& suite) { return suite.param ? "fp8" : "exact"; });

}  // namespace
}  // namespace sluice::model
