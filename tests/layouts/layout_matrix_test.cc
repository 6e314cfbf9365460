#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "layout_world.h"

// One answer: whatever the layout and the chunks, the logits of every row, the tokens and the cache bytes are
// those of one rank that computes whole prompts; and the ranks share the work instead of repeating it.
namespace sluice::layouts {
namespace {

const Answers& OneRank(bool fp8) {
  static const Answers exact = RunLayout({}, false, nullptr);
  static const Answers quantised = RunLayout({}, true, nullptr);
  return fp8 ? quantised : exact;
}

void ExpectTheOneAnswer(const Answers& answers, bool fp8) {
  const Answers& expected = OneRank(fp8);
  ASSERT_EQ(answers.results.size(), expected.results.size());
  for (size_t i = 0; i < expected.results.size(); ++i) {
    EXPECT_EQ(answers.results[i].tokens, expected.results[i].tokens) << "prompt " << i;
    const auto& got = answers.results[i].logits;
    const auto& want = expected.results[i].logits;
    ASSERT_EQ(got.size(), want.size()) << "prompt " << i;
    ASSERT_FALSE(want.empty());
    EXPECT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0)
        << "logits of prompt " << i;
    ASSERT_EQ(answers.caches[i].size(), expected.caches[i].size());
    EXPECT_EQ(std::memcmp(answers.caches[i].data(), expected.caches[i].data(), expected.caches[i].size()), 0)
        << "cache of prompt " << i;
  }
  EXPECT_TRUE(answers.replicas_agree) << "the lanes of a stage hold different caches";
}

// Rows dealt over the lanes add up to T on every stage; what crosses a hop is what the lane computed.
void ExpectSharedWork(const Layout& layout, const Answers& answers, bool fp8) {
  const auto& config = TestCheckpoint(fp8)->config();
  const int64_t row_bytes = config.hidden_size * (fp8 ? 2 : 4);
  for (int stage = 0; stage < layout.stages; ++stage) {
    int64_t rows = 0;
    for (int lane = 0; lane < layout.lanes; ++lane) {
      const auto& heartbeat = answers.states[stage * layout.lanes + lane].heartbeat;
      rows += heartbeat.rows_computed;
      if (layout.lanes > 1) {
        EXPECT_LT(heartbeat.rows_computed, answers.rows);
      }
      EXPECT_EQ(heartbeat.hop_bytes_sent,
                stage + 1 < layout.stages ? heartbeat.rows_computed * row_bytes : 0);
      EXPECT_EQ(heartbeat.hop_bytes_received, stage > 0 ? heartbeat.rows_computed * row_bytes : 0);
    }
    EXPECT_EQ(rows, answers.rows) << "stage " << stage;
  }
}

// Ops whose rows are the lane's own: summed over the lanes of a stage they are T per layer, and no lane of
// several reaches T.
void ExpectOpRows(const Layout& layout, const Answers& answers, std::vector<OpLog>& logs, bool fp8) {
  const auto& config = TestCheckpoint(fp8)->config();
  const auto cut = parallel::DefaultLayerCut(config.num_hidden_layers, layout.stages);
  for (int stage = 0; stage < layout.stages; ++stage) {
    const int64_t layers = cut[stage].size();
    const int64_t moe_layers = cut[stage].end - std::max(cut[stage].begin, config.first_k_dense_replace);
    for (const auto& [op, per_step_layers] : {std::pair<const char*, int64_t>{"LatentRows", layers},
                                              {"IndexKeyRows", layers},
                                              {"IndexQueries", layers},
                                              {"SelectKeys", layers},
                                              {"AbsorbQuery", layers},
                                              {"SparseAttention", layers},
                                              {"ValueUp", layers},
                                              {"Route", moe_layers},
                                              {"RopeAngles", 1}}) {
      int64_t sum = 0;
      for (int lane = 0; lane < layout.lanes; ++lane) {
        const int64_t rows = logs[stage * layout.lanes + lane].rows[op];
        sum += rows;
        if (layout.lanes > 1 && per_step_layers > 0) {
          EXPECT_LT(rows, answers.rows * per_step_layers) << op << " stage " << stage;
        }
      }
      EXPECT_EQ(sum, answers.rows * per_step_layers) << op << " stage " << stage;
    }
    // Each row meets each of its experts once, wherever the expert lives: gate, up and down projections.
    int64_t pairs = 0;
    for (int lane = 0; lane < layout.lanes; ++lane) {
      pairs += logs[stage * layout.lanes + lane].rows["GroupedLinear"];
    }
    EXPECT_EQ(pairs, 3 * answers.rows * moe_layers * config.num_experts_per_tok) << "stage " << stage;
  }
}

// Between the last op of a stage and the first of the next nothing is gathered: the last thing in a pass of
// every stage but the last is an op, and so is the first thing in a pass of every stage but the first.
void ExpectNoCollectiveAtTheHop(const Layout& layout, const Answers& answers, std::vector<OpLog>& logs) {
  for (int rank = 0; rank < layout.stages * layout.lanes; ++rank) {
    const int stage = rank / layout.lanes;
    std::vector<trace::Span> collectives;
    for (const trace::Span& span : answers.spans[rank]) {
      if (span.kind == trace::SpanKind::kCollective) collectives.push_back(span);
    }
    int passes = 0;
    for (const trace::Span& pass : answers.spans[rank]) {
      if (pass.kind != trace::SpanKind::kCompute) continue;
      ++passes;
      int64_t first_op = INT64_MAX;
      int64_t last_op = INT64_MIN;
      for (const auto& [begin, op] : logs[rank].calls) {
        if (begin < pass.begin_ns || begin > pass.end_ns) continue;
        first_op = std::min(first_op, begin);
        last_op = std::max(last_op, begin);
      }
      for (const trace::Span& collective : collectives) {
        if (collective.step != pass.step) continue;
        EXPECT_GE(collective.begin_ns, pass.begin_ns);
        EXPECT_LE(collective.end_ns, pass.end_ns);
        if (stage > 0) {
          EXPECT_GT(collective.begin_ns, first_op);
        }
        if (stage + 1 < layout.stages) {
          EXPECT_LT(collective.end_ns, last_op);
        }
      }
    }
    EXPECT_GT(passes, 0);
    if (layout.lanes > 1) {
      EXPECT_FALSE(collectives.empty());
    }
  }
}

class LayoutMatrix : public testing::TestWithParam<Layout> {};

TEST_P(LayoutMatrix, GivesTheOneAnswer) {
  const Layout& layout = GetParam();
  if (layout.processes) {
    const Answers answers = RunLayout(layout, false, nullptr);
    ExpectTheOneAnswer(answers, false);
    ExpectSharedWork(layout, answers, false);
    return;
  }
  // FP8 rides along where all three axes are used.
  for (const bool fp8 : {false, true}) {
    if (fp8 && (layout.stages != 2 || layout.lanes != 2)) continue;
    std::vector<OpLog> logs(layout.stages * layout.lanes);
    const Answers answers = RunLayout(layout, fp8, &logs);
    ExpectTheOneAnswer(answers, fp8);
    ExpectSharedWork(layout, answers, fp8);
    ExpectOpRows(layout, answers, logs, fp8);
    ExpectNoCollectiveAtTheHop(layout, answers, logs);
  }
}

// Equal answers cannot tell an ignored flag; the rows of the lanes and the number of passes can. Three rows
// over two lanes: round-robin gives lane 0 rows 0 and 2; in-sequence cuts them into blocks 0, 1, 2 of four,
// of which lane 0 has the first and lane 1 the others.
TEST(LayoutFlags, SplitModeAndChunkSizeAreObeyed) {
  const auto run = [](const Layout& layout, const engine::OfflineRequest& request) {
    const engine::JobSettings settings = SettingsOf(layout, false);
    engine::OfflineRunner runner(settings,
                                 {layout.chunk, 8, settings.cache_pages, settings.max_steps_in_flight},
                                 engine::StartThreadRanks(settings, TestCheckpoint(false), {}));
    runner.Run({request});
    std::vector<int64_t> rows;
    for (const auto& state : runner.job().States()) rows.push_back(state.heartbeat.rows_computed);
    int64_t passes = 0;
    for (const trace::Span& span : runner.job().Spans(0))
      passes += span.kind == trace::SpanKind::kCompute ? 1 : 0;
    return std::pair(rows, passes);
  };
  auto sets = PromptSets(TestCheckpoint(false)->config().vocab_size);
  for (auto& set : sets) set.front().max_tokens = 1;
  using Rows = std::vector<int64_t>;
  EXPECT_EQ(run({1, 2, parallel::SplitMode::kInterleave}, sets[1].front()),
            std::pair(Rows({2, 1}), int64_t{1}));
  EXPECT_EQ(run({1, 2, parallel::SplitMode::kZigzag}, sets[1].front()), std::pair(Rows({1, 2}), int64_t{1}));
  EXPECT_EQ(run({2, 1, parallel::SplitMode::kInterleave, 96}, sets[2].front()),
            std::pair(Rows({301, 301}), int64_t{4}));
}

std::vector<Layout> AllLayouts() {
  std::vector<Layout> layouts;
  int number = 0;
  for (const int stages : {1, 2, 3}) {
    for (const int lanes : {1, 2, 4}) {
      for (const auto mode : {parallel::SplitMode::kInterleave, parallel::SplitMode::kZigzag}) {
        for (const int64_t chunk : {int64_t{100000}, int64_t{256}, int64_t{96}}) {
          layouts.push_back({stages, lanes, mode, chunk, false});
          // A quarter of the matrix with ranks as processes.
          if (number++ % 4 == 1) layouts.push_back({stages, lanes, mode, chunk, true});
        }
      }
    }
  }
  return layouts;
}

INSTANTIATE_TEST_SUITE_P(Matrix, LayoutMatrix, testing::ValuesIn(AllLayouts()),
                         [](const auto& suite) { return NameOf(suite.param); });

}  // namespace
}  // namespace sluice::layouts
