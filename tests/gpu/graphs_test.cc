#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <utility>

#include "back_ends.h"
#include "gpu_run.h"

// Decode steps launched as graphs: the bits of ops enqueued one by one, in every layout, and really launched.
namespace sluice::gpu {
namespace {

constexpr const char* kModel =
    "random:tiny?dtype=fp8&layers=5&hidden=512&heads=8&index_heads=32&topk=128&experts=12&n_group=2&topk_"
    "group=1&seed=9";
// Indexers FFSSSF: stages begin with layers that share a selection, whose place the graphs must know too.
constexpr const char* kShared =
    "random:glm-5.2-78?dtype=fp8&layers=6&hidden=512&index_heads=32&topk=128&experts=12&vocab=1024&index_"
    "topk_"
    "freq=4&index_skip_topk_offset=2&num_nextn_predict_layers=0&seed=9";
constexpr int64_t kVocabulary = 1024;
constexpr int64_t kTokens = 40;
constexpr int64_t kOneStep = 1024;  // rows of a step that holds all prompts

// Prompts on both sides of the selection's size, so that rows are scored and not, in one batch; contexts grow
// over the ends of pages.
std::vector<std::vector<int32_t>> Prompts() {
  return {Prompt(1, 1, kVocabulary), Prompt(3, 2, kVocabulary), Prompt(333, 3, kVocabulary),
          Prompt(125, 4, kVocabulary), Prompt(77, 5, kVocabulary)};
}

struct Counts {
  int64_t graphs = 0;
  int64_t ops = 0;  // enqueued one by one
};
struct Result {
  std::vector<Answer> answers;
  std::vector<Counts> ranks;
};

Result RunWith(GpuRun run) {
  Result result;
  const auto counts = [](const ops::cuda::CudaOps& back_end) {
    return Counts{back_end.graph_launches(), back_end.ops_enqueued()};
  };
  AskBackEnds(run, counts, result.ranks);
  result.answers = RunPrompts(run, Prompts(), kTokens);
  return result;
}

std::vector<std::byte> WholeCache(const Answer& answer) {
  std::vector<std::byte> cache;
  for (const auto& stage : answer.caches) cache.insert(cache.end(), stage.begin(), stage.end());
  return cache;
}

void ExpectSame(const Result& result, const Result& plain) {
  ASSERT_EQ(result.answers.size(), plain.answers.size());
  for (size_t i = 0; i < plain.answers.size(); ++i) {
    const Answer& answer = result.answers[i];
    const Answer& expected = plain.answers[i];
    EXPECT_EQ(answer.tokens, expected.tokens) << "prompt " << i;
    ASSERT_EQ(answer.logits.size(), expected.logits.size()) << "prompt " << i;
    EXPECT_EQ(
        std::memcmp(answer.logits.data(), expected.logits.data(), expected.logits.size() * sizeof(float)), 0)
        << "prompt " << i;
    EXPECT_TRUE(answer.replicas_agree) << "prompt " << i;
    EXPECT_TRUE(WholeCache(answer) == WholeCache(expected)) << "prompt " << i;
  }
}

// Steps without graphs, on one rank.
const Result& Plain(const std::string& model) {
  static std::map<std::string, Result> plain;
  const auto [at, is_new] = plain.try_emplace(model);
  if (is_new) at->second = RunWith(GpuRun{model});
  return at->second;
}

class GraphsTest : public testing::TestWithParam<GpuRun> {
 protected:
  void SetUp() override {
    if (!HasHopper()) GTEST_SKIP() << "no Hopper GPU";
  }
};

// Layouts whose answers and caches are not one rank's, byte for byte: sums cut over heads; layers that a
// stage has in another order.
bool HasBitsOfItsOwn(const GpuRun& run) { return run.attn_tp > 1 || run.virtual_stages > 1; }

TEST_P(GraphsTest, GiveTheBitsOfOpsOneByOneAndAreLaunched) {
  const GpuRun& run = GetParam();
  GpuRun without = run;
  without.graph_rows.clear();
  const Result result = RunWith(run);
  const Result plain = RunWith(without);
  ExpectSame(result, plain);
  if (!HasBitsOfItsOwn(run)) ExpectSame(plain, Plain(run.model));
  const int64_t decode_passes = (kTokens - 1) * run.virtual_stages;
  for (size_t rank = 0; rank < result.ranks.size(); ++rank) {
    const Counts& with = result.ranks[rank];
    std::printf("rank %zu: %lld pieces of graphs and %lld ops; without graphs %lld ops\n", rank,
                static_cast<long long>(with.graphs), static_cast<long long>(with.ops),
                static_cast<long long>(plain.ranks[rank].ops));
    EXPECT_EQ(plain.ranks[rank].graphs, 0);
    // All prompts make one step, or several with decode steps between them; then each step is a decode step.
    if (run.chunk == kOneStep && run.lanes == 1) {
      EXPECT_EQ(with.graphs, decode_passes) << "rank " << rank;
    } else if (run.chunk == kOneStep) {
      EXPECT_GT(with.graphs, decode_passes) << "rank " << rank;  // pieces between collectives
      EXPECT_EQ(with.graphs % (kTokens - 1), 0) << "rank " << rank;
    } else {
      EXPECT_GE(with.graphs, decode_passes) << "rank " << rank;
    }
    EXPECT_LT(with.ops, plain.ranks[rank].ops / 2) << "rank " << rank;
  }
}

std::vector<GpuRun> WithGraphs(std::vector<GpuRun> layouts) {
  for (GpuRun& run : layouts) run.graph_rows = {1, 2, 3, 4, 5};
  return layouts;
}

std::vector<GpuRun> Layouts() {
  std::vector<GpuRun> layouts = LayoutsOf(kModel, {kOneStep, kZigzagChunk});
  for (const int lanes : {1, 2}) {
    GpuRun run{kModel};
    run.stages = 2;
    run.lanes = lanes;
    run.virtual_stages = 2;
    run.chunk = kOneStep;
    layouts.push_back(run);
  }
  for (const int stages : {1, 2}) {
    GpuRun run{kModel};
    run.stages = stages;
    run.lanes = 4;
    run.attn_tp = 2;
    run.chunk = kOneStep;
    layouts.push_back(run);
  }
  return WithGraphs(std::move(layouts));
}

INSTANTIATE_TEST_SUITE_P(Layouts, GraphsTest, testing::ValuesIn(Layouts()), kLayoutName);

std::vector<GpuRun> LayoutsOfShared() {
  std::vector<GpuRun> layouts;
  for (const auto& [stages, lanes] : {std::pair(1, 1), {2, 1}, {2, 2}, {3, 1}, {3, 2}}) {
    GpuRun run{kShared};
    run.stages = stages;
    run.lanes = lanes;
    run.chunk = stages == 3 ? 96 : kOneStep;
    layouts.push_back(run);
  }
  return WithGraphs(std::move(layouts));
}

INSTANTIATE_TEST_SUITE_P(SharedSelections, GraphsTest, testing::ValuesIn(LayoutsOfShared()), kLayoutName);

}  // namespace
}  // namespace sluice::gpu
