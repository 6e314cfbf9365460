#include "cli/schedule_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <functional>

#include "checkpoint/checkpoint_maker.h"
#include "checkpoint/tensor_map.h"
#include "cli/human_size.h"
#include "model/weight_bytes.h"

namespace sluice::cli {
namespace {

using testing::HasSubstr;

template <typename Body>
std::string SentenceOf(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "";
}

class MemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-memory-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    checkpoint::MakeOptions options;
    options.format = checkpoint::WeightFormat::kF32;
    checkpoint::MakeCheckpoint(directory_ / "model", options, checkpoint::PlanCheckpoint(options), {});
    checkpoint_ = checkpoint::Checkpoint::Open(directory_ / "model");
    settings_.grid = {2, 2};
    settings_.layer_sizes = {1, 3};
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  int64_t WeightsOf(int rank) const {
    const bool last = settings_.grid.StageOf(rank) == 1;
    const parallel::LayerRange layers = last ? parallel::LayerRange{1, 4} : parallel::LayerRange{0, 1};
    return model::WeightBytes(*checkpoint_, ops::Numerics::kExact,
                              {{layers}, settings_.grid.LaneOf(rank), 2, 1, 2, false, !last, last});
  }

  std::filesystem::path directory_;
  std::unique_ptr<checkpoint::Checkpoint> checkpoint_;
  engine::JobSettings settings_;
};

TEST_F(MemoryTest, TheFullestRankDecidesHowManyPagesThereAre) {
  constexpr int64_t kHost = int64_t{3} << 30;
  const MemoryPlan plan = PlanMemory(settings_, *checkpoint_, kHost, 4, false, 0.5);
  // 512 latent, 64 rope and 128 index-key channels in fp32, in three layers.
  constexpr int64_t kToken = 3 * 4 * (512 + 64 + 128);
  EXPECT_EQ(plan.share_bytes, kHost / 2 / 4);
  EXPECT_EQ(plan.token_bytes, kToken);
  EXPECT_EQ(plan.pages, (plan.share_bytes - WeightsOf(2)) / (64 * kToken));
  EXPECT_EQ(plan.weight_bytes, std::max(WeightsOf(2), WeightsOf(3)));
  EXPECT_LE(plan.weight_bytes + plan.cache_bytes(), plan.share_bytes);
  EXPECT_THAT(plan.Line(), HasSubstr("3.00 GiB of this host x 0.5 / 4 ranks = 0.38 GiB each"));
}

// Two lanes of each stage hold all but routed experts and vocabulary alike: as threads they hold it once.
TEST_F(MemoryTest, ThreadsHoldWhatTheyHaveAlikeOnce) {
  constexpr int64_t kHost = int64_t{3} << 30;
  const MemoryPlan plan = PlanMemory(settings_, *checkpoint_, kHost, 4, true, 0.5);
  int64_t each = 0;
  for (int rank = 0; rank < 4; ++rank) each += WeightsOf(rank);
  int64_t alike = 0;
  for (const auto& tensor : checkpoint::TensorsOf(checkpoint_->config(), {0, 4, 0, 0, false, false})) {
    if (tensor.shape.size() != 2) continue;
    alike += (tensor.shape[0] + 31) / 32 * 32 * tensor.shape[1] * 4;  // outputs are packed 32 at a time
  }
  EXPECT_EQ(plan.weight_bytes, each - alike);
  EXPECT_EQ(plan.share_bytes, kHost / 2);
  EXPECT_EQ(plan.token_bytes, 2 * 4 * 4 * (512 + 64 + 128));  // two lanes, four layers, fp32
  EXPECT_EQ(plan.pages, (plan.share_bytes - plan.weight_bytes) / (64 * plan.token_bytes));
  EXPECT_THAT(plan.Line(), HasSubstr("3.00 GiB of this host x 0.5 = 1.50 GiB for 4 ranks together: weights"));
  EXPECT_GT(plan.pages, PlanMemory(settings_, *checkpoint_, kHost, 4, false, 0.5).pages);
}

TEST_F(MemoryTest, ABf16CacheTakesWhatItTakes) {
  settings_.numerics = engine::NumericsChoice::kFp8;
  const auto token_bytes = [&] {
    return PlanMemory(settings_, *checkpoint_, int64_t{3} << 30, 4, false, 0.5).token_bytes;
  };
  EXPECT_EQ(token_bytes(), 3 * (656 + 132));
  settings_.cache_format = ops::CacheFormat::kBf16;
  EXPECT_EQ(token_bytes(), 3 * (1152 + 132));
}

TEST_F(MemoryTest, ACacheThatDoesNotGoWithTheNumericsIsRefused) {
  const auto refused = [&](engine::NumericsChoice numerics, ops::CacheFormat format) {
    settings_.numerics = numerics;
    settings_.cache_format = format;
    return SentenceOf([&] { engine::CheckFits(settings_, checkpoint_->config(), checkpoint_->is_fp8()); });
  };
  using enum engine::NumericsChoice;
  EXPECT_THAT(refused(kExact, ops::CacheFormat::kBf16), HasSubstr("bf16 does not go with numerics exact"));
  EXPECT_THAT(refused(kExact, ops::CacheFormat::kFp8), HasSubstr("fp8_e4m3 does not go with numerics exact"));
  EXPECT_THAT(refused(kFp8, ops::CacheFormat::kF32), HasSubstr("use --kv-cache-dtype bf16 or fp8_e4m3"));
  EXPECT_EQ(refused(kExact, ops::CacheFormat::kF32), "");
  EXPECT_EQ(refused(kFp8, ops::CacheFormat::kBf16), "");
  EXPECT_EQ(refused(kFp8, ops::CacheFormat::kFp8), "");
}

TEST(GpuFits, WhatTheKernelsAreNotMadeForIsRefused) {
  const auto refused = [](const std::string& model, const std::function<void(engine::JobSettings&)>& change) {
    const auto checkpoint = checkpoint::Checkpoint::Open(model);
    engine::JobSettings settings;
    settings.ops = "cuda";
    settings.grid = {1, 1};
    change(settings);
    return SentenceOf([&] { engine::CheckFits(settings, checkpoint->config(), checkpoint->is_fp8()); });
  };
  const std::string model = "random:tiny?dtype=fp8&index_heads=32";
  EXPECT_EQ(refused(model, [](engine::JobSettings&) {}), "");
  EXPECT_THAT(refused("random:tiny?dtype=fp8", [](engine::JobSettings&) {}), HasSubstr("index_n_heads is 8"));
  EXPECT_THAT(refused(model, [](engine::JobSettings& s) { s.numerics = engine::NumericsChoice::kExact; }),
              HasSubstr("use --numerics fp8"));
  EXPECT_THAT(refused(model, [](engine::JobSettings& s) { s.fault_plan.faults.emplace_back(); }),
              HasSubstr("--fault-plan strikes messages"));
}

TEST_F(MemoryTest, TooSmallAPartIsRefusedWithOneThatFits) {
  constexpr int64_t kHost = int64_t{1} << 30;
  for (const bool threads : {false, true}) {
    const auto with = [&](double fraction) {
      return SentenceOf([&] { PlanMemory(settings_, *checkpoint_, kHost, 4, threads, fraction); });
    };
    const std::string sentence = with(0.001);
    EXPECT_THAT(sentence, HasSubstr("--mem-fraction-static 0.001"));
    EXPECT_THAT(sentence, HasSubstr(threads ? "they together need" : "rank 2 needs"));
    const auto at = sentence.find(": use ");
    ASSERT_NE(at, std::string::npos) << sentence;
    const double enough = std::stod(sentence.substr(at + 6));
    ASSERT_EQ(with(enough), "") << sentence;
    EXPECT_NE(with(enough - 0.001), "") << sentence;
    EXPECT_GE(PlanMemory(settings_, *checkpoint_, kHost, 4, threads, enough).pages, 1) << sentence;
  }
  EXPECT_THAT(SentenceOf([&] { PlanMemory(settings_, *checkpoint_, 1 << 20, 4, false, 1.0); }),
              HasSubstr("fewer ranks"));
}

// On a host that has read a checkpoint before, next to nothing is free and nearly all is available.
TEST(AvailableBytes, WhatTheKernelGivesBackCounts) {
  constexpr std::string_view kText =
      "MemTotal:       131072000 kB\nMemFree:          262144 kB\nMemAvailable:   104857600 kB\n"
      "Buffers:            1024 kB\nCached:        104000000 kB\n";
  EXPECT_EQ(AvailableBytes(kText, 125 * kGiB), 100 * kGiB);
  EXPECT_EQ(AvailableBytes(kText, 4 * kGiB), 4 * kGiB) << "a container may use less than the host has";
  EXPECT_EQ(AvailableBytes("MemFree: 5 kB\n", 4 * kGiB), 0);
}

TEST(LoaderConfig, TakesTheTwoKeysThereAre) {
  const auto threads = [](const std::string& json) {
    LayoutFlags flags;
    flags.model_loader_extra_config = json;
    return LoaderThreadsOf(flags);
  };
  EXPECT_EQ(threads(""), 4);
  EXPECT_EQ(threads(R"({"enable_multithread_load": true, "num_threads": 6})"), 6);
  EXPECT_EQ(threads(R"({"enable_multithread_load": true})"), 8);
  EXPECT_EQ(threads("{}"), 1);
  for (const char* wrong :
       {"[]", "{", R"({"threads": 3})", R"({"num_threads": 3})", R"({"enable_multithread_load": 1})",
        R"({"enable_multithread_load": true, "num_threads": 0})"}) {
    EXPECT_THAT(SentenceOf([&] { threads(wrong); }),
                HasSubstr(std::string("--model-loader-extra-config ") + wrong));
  }
  for (const int64_t said : {2, 4}) {  // 4 is also what nothing said means
    LayoutFlags both;
    both.loader_threads = said;
    EXPECT_EQ(LoaderThreadsOf(both), said);
    both.model_loader_extra_config = "{}";
    EXPECT_THAT(SentenceOf([&] { LoaderThreadsOf(both); }), HasSubstr("give one of them"));
  }
}

TEST(EngineOptionsOf, WholePromptsAreStepsOfAnyLength) {
  engine::JobSettings settings;
  settings.cache_pages = 10;
  LayoutFlags flags;
  EXPECT_EQ(EngineOptionsOf(flags, settings).chunk_rows, 8192);
  EXPECT_EQ(EngineOptionsOf(flags, settings).prefill_rows, 0);
  flags.chunked_prefill_size = -1;
  flags.max_prefill_tokens = 100;
  flags.pp_max_micro_batch_size = 3;
  const engine::EngineOptions options = EngineOptionsOf(flags, settings);
  EXPECT_EQ(options.chunk_rows, 640);
  EXPECT_EQ(options.prefill_rows, 100);
  EXPECT_EQ(options.step_sequences, 3);
}

TEST(EngineOptionsOf, QueueAndPriority) {
  const checkpoint::ModelConfig config = checkpoint::PlanCheckpoint({}).config;
  LayoutFlags flags;
  EXPECT_EQ(EngineOptionsOf(flags, {}).max_queued, 2048);
  EXPECT_EQ(EngineOptionsOf(flags, {}).max_queued_tokens, 0);
  EXPECT_FALSE(EngineOptionsOf(flags, {}).by_priority);
  flags.max_queued_requests = 3;
  flags.max_queued_tokens = 100;
  flags.enable_priority_scheduling = flags.schedule_low_priority_values_first = true;
  CheckScheduleFlags(flags, config);
  const engine::EngineOptions options = EngineOptionsOf(flags, {});
  EXPECT_EQ(options.max_queued, 3);
  EXPECT_EQ(options.max_queued_tokens, 100);
  EXPECT_TRUE(options.by_priority);
  EXPECT_TRUE(options.low_values_first);
  const auto refused = [&] { return SentenceOf([&] { CheckScheduleFlags(flags, config); }); };
  flags.enable_priority_scheduling = false;
  EXPECT_THAT(refused(), HasSubstr("--schedule-low-priority-values-first"));
  flags.schedule_low_priority_values_first = false;
  flags.max_queued_tokens = 0;
  EXPECT_THAT(refused(), HasSubstr("--max-queued-tokens 0 is out of range: use 1 or more"));
  flags.max_queued_requests = 0;
  EXPECT_THAT(refused(), HasSubstr("--max-queued-requests 0"));
}

}  // namespace
}  // namespace sluice::cli
