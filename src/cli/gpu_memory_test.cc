#include "cli/gpu_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "cli/human_size.h"
#include "cli/schedule_flags.h"

namespace sluice::cli {
namespace {

using testing::HasSubstr;

constexpr ops::cuda::MemoryInfo kCard{139 * kGiB, 140 * kGiB};  // free, total

// Weights, page, activations, workspace.
std::vector<engine::RankMemory> Ranks() {
  return {{40 * kGiB, kGiB / 100, 2 * kGiB, kGiB / 2}, {30 * kGiB, kGiB / 50, 2 * kGiB, kGiB / 2}};
}

std::string PlanRefused(double fraction, int64_t pages) {
  try {
    PlanGpuMemory(3, kCard, Ranks(), fraction, pages);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kMemory);
    return error.what();
  }
  return "";
}

TEST(GpuMemory, TheFractionIsSharedByTheRanksOfTheCard) {
  const GpuMemoryPlan plan = PlanGpuMemory(3, kCard, Ranks(), 0.9, 0);
  // 126 GiB, less 1 that is in use, 70 of weights, 4 of activations and 1 of workspace.
  EXPECT_EQ(plan.pages, 50 * kGiB / (kGiB / 100 + kGiB / 50));
  EXPECT_LE(plan.context_bytes() + plan.planned_bytes(), 126 * kGiB);
  EXPECT_EQ(plan.free_bytes() + plan.planned_bytes() + plan.context_bytes(), 140 * kGiB);
}

TEST(GpuMemory, TheTableSaysWhatIsPlanned) {
  const std::string table = PlanGpuMemory(3, kCard, Ranks(), 0.0, 100).Table();
  EXPECT_EQ(table,
            "memory of GPU 3 in GiB     rank 0   rank 1     card\n"
            "  weights                   40.00    30.00    70.00\n"
            "  cache                      1.00     2.00     3.00\n"
            "  activations                2.00     2.00     4.00\n"
            "  workspace                  0.50     0.50     1.00\n"
            "  ranks together            43.50    34.50    78.00\n"
            "  context, and others                          1.00\n"
            "  free                                        61.00\n"
            "  the driver's total                         140.00\n"
            "  cache of 100 pages, 6400 tokens on every rank");
}

TEST(GpuMemory, MtpLayersHaveARowOfTheirOwnAndAreCountedOnce) {
  std::vector<engine::RankMemory> ranks = Ranks();
  ranks[1].mtp_weights = 6 * kGiB;
  const GpuMemoryPlan plan = PlanGpuMemory(3, kCard, ranks, 0.0, 100);
  EXPECT_THAT(plan.Table(), HasSubstr("  weights                   40.00    24.00    64.00\n"
                                      "  weights of MTP layers      0.00     6.00     6.00\n"
                                      "  cache                      1.00     2.00     3.00\n"));
  EXPECT_THAT(plan.Table(), HasSubstr("  ranks together            43.50    34.50    78.00\n"));
  EXPECT_THAT(PlanGpuMemory(3, kCard, Ranks(), 0.0, 100).Table(), testing::Not(HasSubstr("MTP")));
}

TEST(GpuMemory, TooLittleIsRefusedWithTheTableAndAFractionThatFits) {
  const std::string sentence = PlanRefused(0.5, 0);
  EXPECT_THAT(sentence, HasSubstr("--mem-fraction-static 0.5 of the 140.00 GiB of GPU 3 is 70.00 GiB"));
  EXPECT_THAT(sentence, HasSubstr("weights                   40.00    30.00    70.00"));
  const auto at = sentence.find(": use ");
  ASSERT_NE(at, std::string::npos) << sentence;
  const double enough = std::stod(sentence.substr(at + 6));
  EXPECT_EQ(PlanRefused(enough, 0), "");
  EXPECT_LE(PlanGpuMemory(3, kCard, Ranks(), enough, 0).pages, 1 + 0.001 * 140 / 0.03);
  EXPECT_NE(PlanRefused(enough - 0.002, 0), "");

  EXPECT_THAT(PlanRefused(0.0, 3000),
              HasSubstr("(2) need 165.00 GiB with the 192000 tokens of --max-total-tokens"));
  EXPECT_EQ(PlanRefused(0.0, 2000), "");
}

TEST(GpuMemory, GpusWithARankEachHoldThePagesOfTheFullest) {
  const std::vector<HostGpu> gpus = {{2, kCard}, {4, {130 * kGiB, 140 * kGiB}}};
  const auto plans = PlanHostGpus(gpus, Ranks(), 1, 0, true, 0.9, 0);
  ASSERT_EQ(plans.size(), 2U);
  // Of 126 GiB: 1 and 42.5 are gone on the first, 10 and 32.5 on the second, whose pages are twice as large.
  const int64_t pages = (126 * kGiB - 10 * kGiB - 65 * kGiB / 2) / (kGiB / 50);
  EXPECT_EQ(plans[0].pages, pages);
  EXPECT_EQ(plans[1].pages, pages);
  EXPECT_EQ(TableOf(plans),
            "memory of GPUs in GiB       GPU 2    GPU 4\n"
            "  weights                   40.00    30.00\n"
            "  cache                     41.75    83.50\n"
            "  activations                2.00     2.00\n"
            "  workspace                  0.50     0.50\n"
            "  rank's sum                84.25   116.00\n"
            "  context, and others        1.00    10.00\n"
            "  free                      54.75    14.00\n"
            "  the driver's total       140.00   140.00\n"
            "  cache of 4175 pages, 267200 tokens on every rank");
}

TEST(GpuMemory, ProcessesOnOneGpuHaveAContextEach) {
  const auto threads = PlanHostGpus({{3, kCard}}, Ranks(), 1, 0, false, 0.0, 100);
  const auto processes = PlanHostGpus({{3, kCard}}, Ranks(), 1, 0, true, 0.0, 100);
  EXPECT_EQ(threads.front().Table(), PlanGpuMemory(3, kCard, Ranks(), 0.0, 100).Table());
  EXPECT_EQ(processes.front().free_bytes(), threads.front().free_bytes() - kContextBytes);
  EXPECT_EQ(processes.front().context_bytes(), kGiB + kContextBytes);
}

// What is in use on hosts of one kind differs by a little, and their ranks must agree.
TEST(GpuMemory, HostsOfOneKindComeToOneNumberOfPages) {
  const auto pages = [](int64_t used, int node) {
    const HostGpu gpu{0, {140 * kGiB - used, 140 * kGiB}};
    return PlanHostGpus({gpu}, Ranks(), 2, node, true, 0.9, 0).front().pages;
  };
  EXPECT_EQ(pages(kGiB / 2, 0), pages(kGiB / 2 + 4096, 1));
  EXPECT_EQ(PlanHostGpus({{0, kCard}}, Ranks(), 2, 1, true, 0.9, 0).front().first_rank, 1);
}

TEST(GpuMemory, AStepIsAsLargeAsTheFlagsAllow) {
  checkpoint::ModelConfig config;
  config.max_position_embeddings = 5000;
  LayoutFlags flags;
  flags.chunked_prefill_size = 1024;
  EXPECT_EQ(LargestStepOf(flags, config).rows, 1024);
  EXPECT_EQ(LargestStepOf(flags, config).sequences, 64);
  EXPECT_EQ(LargestStepOf(flags, config).positions, 5000);
  flags.chunked_prefill_size = -1;
  flags.context_length = 3000;
  flags.pp_max_micro_batch_size = 5;
  EXPECT_EQ(LargestStepOf(flags, config).rows, 3063);
  EXPECT_EQ(LargestStepOf(flags, config).sequences, 5);
  EXPECT_EQ(LargestStepOf(flags, config).positions, 3000);
}

}  // namespace
}  // namespace sluice::cli
