#include <gtest/gtest.h>

#include <cstring>

#include "gpu_run.h"

// One answer on the GPU: every layout of thread ranks on one card gives the bits of one rank that computes
// whole prompts; batch mixes give the bits of prompts alone.
namespace sluice::gpu {
namespace {

constexpr const char* kModel =
    "random:tiny?dtype=fp8&layers=5&hidden=512&heads=8&index_heads=32&topk=128&experts=12&n_group=2&topk_"
    "group=1&seed=9";
constexpr int64_t kVocabulary = 1024;

std::vector<std::vector<int32_t>> Prompts() {
  return {Prompt(1, 1, kVocabulary), Prompt(3, 2, kVocabulary), Prompt(701, 3, kVocabulary),
          Prompt(130, 4, kVocabulary), Prompt(77, 5, kVocabulary)};
}

const std::vector<Answer>& OneRank() {
  static const std::vector<Answer> answers = [] {
    std::vector<Answer> alone;
    for (const auto& prompt : Prompts()) alone.push_back(RunPrompts(GpuRun{kModel}, {prompt}, 6).front());
    return alone;
  }();
  return answers;
}

bool EqualBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class GpuLayoutsTest : public testing::TestWithParam<GpuRun> {
 protected:
  void SetUp() override {
    if (!HasHopper()) GTEST_SKIP() << "no Hopper GPU";
  }
};

TEST_P(GpuLayoutsTest, GivesTheBitsOfOneRank) {
  const std::vector<Answer> answers = RunPrompts(GetParam(), Prompts(), 6);
  ASSERT_EQ(answers.size(), OneRank().size());
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].tokens, OneRank()[i].tokens) << "prompt " << i;
    EXPECT_TRUE(EqualBits(answers[i].logits, OneRank()[i].logits)) << "prompt " << i;
    EXPECT_TRUE(answers[i].replicas_agree) << "prompt " << i;
    if (GetParam().max_running < std::ssize(answers)) continue;  // its pages are another prompt's by now
    std::vector<std::byte> cache;
    for (const auto& stage : answers[i].caches) cache.insert(cache.end(), stage.begin(), stage.end());
    EXPECT_TRUE(cache == OneRank()[i].caches.front()) << "prompt " << i;
  }
}

std::vector<GpuRun> Layouts() {
  std::vector<GpuRun> layouts = LayoutsOf(kModel, {100000, 256, kZigzagChunk});
  for (GpuRun& run : layouts) {
    run.one_owner = run.chunk == 256;
    run.max_running = run.chunk == 256 ? 2 : 64;
  }
  return layouts;
}

INSTANTIATE_TEST_SUITE_P(Layouts, GpuLayoutsTest, testing::ValuesIn(Layouts()), kLayoutName);

}  // namespace
}  // namespace sluice::gpu
