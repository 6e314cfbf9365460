#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>

#include "layout_sample.h"
#include "layout_world.h"

// One answer: whatever the layout and the chunks, the logits of every row, the tokens and the cache bytes are
// those of one rank that computes whole prompts; and the ranks share the work instead of repeating it.
namespace sluice::layouts {
namespace {

// The layout that has the same answer with the fewest ranks. One rank, but where a sum is cut over ranks: by
// heads, or a dense MLP's channels. There the answer follows from the cut alone.
Layout Reference(const Layout& layout) {
  Layout reference;
  reference.fp8 = layout.fp8;
  reference.shares = layout.shares;
  reference.attn_tp = layout.attn_tp;
  reference.dense_tp = layout.dense_tp && layout.lanes > 1;
  reference.lanes = reference.dense_tp ? layout.lanes : layout.attn_tp;
  return reference;
}

const Answers& ReferenceAnswers(const Layout& layout) {
  static std::deque<std::pair<Layout, Answers>> known;  // references into it stay
  const Layout reference = Reference(layout);
  for (const auto& [of, answers] : known) {
    if (of == reference) return answers;
  }
  return known.emplace_back(reference, RunLayout(reference, nullptr)).second;
}

void ExpectTheOneAnswer(const Layout& layout, const Answers& answers) {
  const Answers& expected = ReferenceAnswers(layout);
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

// Ranges after those of `stage` that begin with layers that share a selection: there it crosses the hop.
int SelectionsSent(const Layout& layout, int stage) {
  const auto& config = TestCheckpoint(layout)->config();
  const auto cut = parallel::DefaultLayerCut(config.num_hidden_layers, layout.stages, layout.virtual_stages);
  int sent = 0;
  for (size_t next = stage + 1; next < cut.size() && layout.stages > 1; next += layout.stages) {
    sent += config.HasIndexer(cut[next].begin) ? 0 : 1;
  }
  return sent;
}

// Rows dealt over the lanes add up to T on every stage; what crosses a hop is what the lane computed, once for
// every visit that has a stage after it, and the selections that the layers after it share.
void ExpectSharedWork(const Layout& layout, const Answers& answers) {
  const auto& config = TestCheckpoint(layout)->config();
  const int64_t row_bytes = config.hidden_size * (layout.fp8 ? 2 : 4);
  const int visits = layout.virtual_stages;
  const int64_t selection_bytes = config.index_topk * 4;
  for (int stage = 0; stage < layout.stages; ++stage) {
    const int64_t selections = SelectionsSent(layout, stage);
    const int before = (stage + layout.stages - 1) % layout.stages;
    const int64_t selections_taken = SelectionsSent(layout, before);
    const int sends = layout.stages == 1 ? 0 : stage + 1 < layout.stages ? visits : visits - 1;
    const int receives = layout.stages == 1 ? 0 : stage > 0 ? visits : visits - 1;
    int64_t rows = 0;
    for (int lane = 0; lane < layout.lanes; ++lane) {
      const auto& heartbeat = answers.states[stage * layout.lanes + lane].heartbeat;
      rows += heartbeat.rows_computed;
      if (layout.lanes > 1) {
        EXPECT_LT(heartbeat.rows_computed, answers.rows);
      }
      EXPECT_EQ(heartbeat.hop_selection_bytes_sent, heartbeat.rows_computed * selections * selection_bytes);
      EXPECT_EQ(heartbeat.hop_bytes_sent,
                heartbeat.rows_computed * (sends * row_bytes + selections * selection_bytes));
      EXPECT_EQ(heartbeat.hop_bytes_received,
                heartbeat.rows_computed * (receives * row_bytes + selections_taken * selection_bytes));
    }
    EXPECT_EQ(rows, answers.rows) << "stage " << stage;
  }
}

struct StageLayers {
  int64_t all = 0;
  int64_t indexers = 0;
  int64_t moe = 0;
};
StageLayers LayersOf(const Layout& layout, int stage) {
  const auto& config = TestCheckpoint(layout)->config();
  const auto cut = parallel::DefaultLayerCut(config.num_hidden_layers, layout.stages, layout.virtual_stages);
  StageLayers layers;
  for (size_t range = stage; range < cut.size(); range += layout.stages) {
    layers.all += cut[range].size();
    layers.indexers += config.IndexersIn(cut[range].begin, cut[range].end);
    layers.moe +=
        std::max<int64_t>(0, cut[range].end - std::max(cut[range].begin, config.first_k_dense_replace));
  }
  return layers;
}

// Ops whose rows are the lane's own: summed over the lanes of a stage they are T per layer, and no lane of
// several reaches T. Heads cut over lanes: each lane attends for its head group's rows with its part of the
// heads.
void ExpectOpRows(const Layout& layout, const Answers& answers, std::vector<OpLog>& logs) {
  const auto& config = TestCheckpoint(layout)->config();
  for (int stage = 0; stage < layout.stages; ++stage) {
    const auto [layers, indexers, moe_layers] = LayersOf(layout, stage);
    const auto sum_of = [&](const char* op) {
      int64_t sum = 0;
      for (int lane = 0; lane < layout.lanes; ++lane) sum += logs[stage * layout.lanes + lane].rows[op];
      return sum;
    };
    for (const auto& [op, per_step_layers] : {std::pair<const char*, int64_t>{"LatentRows", layers},
                                              {"IndexKeyRows", indexers},
                                              {"IndexQueries", indexers},
                                              {"SelectKeys", indexers},
                                              {"Route", moe_layers}}) {
      EXPECT_EQ(sum_of(op), answers.rows * per_step_layers) << op << " stage " << stage;
      for (int lane = 0; lane < layout.lanes && layout.lanes > 1 && per_step_layers > 0; ++lane) {
        EXPECT_LT(logs[stage * layout.lanes + lane].rows[op], answers.rows * per_step_layers)
            << op << " stage " << stage;
      }
    }
    for (const char* op : {"AbsorbQuery", "SparseAttention", "ValueUp"}) {
      EXPECT_EQ(sum_of(op), answers.rows * layers * layout.attn_tp) << op << " stage " << stage;
    }
    const int64_t rotations = layout.attn_tp > 1 ? 1 + layout.attn_tp : 1;
    EXPECT_EQ(sum_of("RopeAngles"), answers.rows * layout.virtual_stages * rotations) << "stage " << stage;
    // Each row meets each of its experts once, wherever the expert lives: gate, up and down projections.
    EXPECT_EQ(sum_of("GroupedLinear"), 3 * answers.rows * moe_layers * config.num_experts_per_tok)
        << "stage " << stage;
    for (int lane = 1; lane < layout.lanes && layout.one_owner; ++lane) {
      EXPECT_EQ(logs[stage * layout.lanes + lane].rows["GroupedLinear"], 0) << "lane " << lane;
    }
  }
}

// What a stage's lanes send one another for experts, beside the formulas of docs/life-of-a-chunk.md: choices to
// the byte; rows as rows x (owners of a row) x (C - 1) / C x row bytes, which holds for owners that the router
// does not prefer by where a row lives; sums likewise.
void ExpectExpertTraffic(const Layout& layout, const Answers& answers) {
  const auto& config = TestCheckpoint(layout)->config();
  const double elsewhere = (layout.lanes - 1.0) / layout.lanes;
  const int64_t row_bytes =
      layout.fp8 ? ops::QuantizedRowBytes(config.hidden_size) : config.hidden_size * 4;
  const int64_t sum_bytes = config.hidden_size * (layout.fp8 ? 2 : 4);
  for (int stage = 0; stage < layout.stages; ++stage) {
    const int64_t moe_layers = LayersOf(layout, stage).moe;
    int64_t choices = 0;
    int64_t dispatch = 0;
    int64_t returned = 0;
    int64_t owners = 0;
    for (int lane = 0; lane < layout.lanes; ++lane) {
      const auto& heartbeat = answers.states[stage * layout.lanes + lane].heartbeat;
      choices += heartbeat.expert_choice_bytes;
      dispatch += heartbeat.expert_dispatch_bytes;
      returned += heartbeat.expert_return_bytes;
      owners += heartbeat.expert_row_owners;
    }
    const int64_t rows = answers.rows * moe_layers;
    EXPECT_EQ(choices, (layout.lanes - 1) * rows * 8 * config.num_experts_per_tok) << "stage " << stage;
    if (layout.one_owner) {
      EXPECT_EQ(owners, rows) << "stage " << stage;
    }
    const double formula = static_cast<double>(owners) * elsewhere * static_cast<double>(row_bytes);
    fmt::print("stage {}: {} rows x layers, {:.2f} owners a row; dispatch {} bytes, formula {:.0f}; return {} bytes\n",
               stage, rows, rows > 0 ? static_cast<double>(owners) / static_cast<double>(rows) : 0.0, dispatch,
               formula, returned);
    // Six standard deviations of as many independent draws.
    const double spread = 6.0 * std::sqrt(static_cast<double>(owners) * elsewhere * (1.0 - elsewhere));
    EXPECT_NEAR(static_cast<double>(dispatch), formula, spread * static_cast<double>(row_bytes))
        << "stage " << stage;
    // An owner of unaligned leaves returns more than one subtree of a row.
    const double sums = static_cast<double>(owners) * elsewhere * static_cast<double>(sum_bytes);
    EXPECT_GE(static_cast<double>(returned), sums - spread * static_cast<double>(sum_bytes)) << "stage " << stage;
    if (layout.one_owner) {
      EXPECT_EQ(returned * row_bytes, dispatch * sum_bytes) << "stage " << stage;
    }
  }
}

// Between the last op of a virtual stage and the first of the next nothing is gathered: the last thing in
// every pass but those of the last virtual stage is an op, and so is the first thing in every pass but those
// of the first.
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
        if (collective.step != pass.step || collective.pass != pass.pass) continue;
        EXPECT_GE(collective.begin_ns, pass.begin_ns);
        EXPECT_LE(collective.end_ns, pass.end_ns);
        if (stage > 0 || pass.pass > 0) {
          EXPECT_GT(collective.begin_ns, first_op);
        }
        if (stage + 1 < layout.stages || pass.pass + 1 < layout.virtual_stages) {
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
  std::vector<OpLog> logs(layout.stages * layout.lanes);
  const Answers answers = RunLayout(layout, layout.processes ? nullptr : &logs);
  ExpectTheOneAnswer(layout, answers);
  ExpectSharedWork(layout, answers);
  ExpectExpertTraffic(layout, answers);
  if (layout.processes) return;
  ExpectOpRows(layout, answers, logs);
  ExpectNoCollectiveAtTheHop(layout, answers, logs);
}

// A sum cut over ranks has another order, so another last bit: close to the one-rank answer, not equal to it.
// In a few rows that last bit decides a near tie between two keys or two experts; these may be anywhere, but few
// they must be. src/model/partial_sum_test.cc holds every row to rounding alone, in a model without such choices.
TEST(CutSums, AreCloseToTheOneRankAnswer) {
  constexpr double kBound = 2e-5;  // relative rms of a row's logits, fp32, nine layers
  const Answers& one = ReferenceAnswers({});
  const size_t vocab = TestCheckpoint(false)->config().vocab_size;
  for (Layout layout : {Layout{.lanes = 2, .attn_tp = 2}, Layout{.lanes = 4, .attn_tp = 4},
                        Layout{.lanes = 2, .dense_tp = true}}) {
    const Answers& cut = ReferenceAnswers(layout);
    std::vector<double> distances;  // of every row
    for (size_t i = 0; i < one.results.size(); ++i) {
      const auto& want = one.results[i].logits;
      const auto& got = cut.results[i].logits;
      for (size_t begin = 0; begin < want.size(); begin += vocab) {
        double difference = 0.0;
        double size = 0.0;
        for (size_t j = begin; j < begin + vocab; ++j) {
          difference += (double{got[j]} - want[j]) * (double{got[j]} - want[j]);
          size += double{want[j]} * want[j];
        }
        distances.push_back(std::sqrt(difference / size));
      }
    }
    std::ranges::sort(distances);
    EXPECT_LE(distances[distances.size() * 95 / 100], kBound) << NameOf(layout);
    EXPECT_GT(distances.back(), 0.0) << NameOf(layout) << ": was the sum cut at all?";
  }
}

// Equal answers cannot tell an ignored flag; the rows of the lanes and the number of passes can. Three rows
// over two lanes: round-robin gives lane 0 rows 0 and 2; in-sequence cuts them into blocks 0, 1, 2 of four,
// of which lane 0 has the first and lane 1 the others.
TEST(LayoutFlags, SplitModeAndChunkSizeAreObeyed) {
  const auto run = [](const Layout& layout, const engine::OfflineRequest& request) {
    const engine::JobSettings settings = SettingsOf(layout);
    engine::OfflineRunner runner(settings,
                                 layout.chunk, 8,
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

// A GLM-5.2 whose stages begin and end inside runs of layers that share a selection, at pp 2 and 3: pp {1,2,3} x
// cp {1,2,4} with both numerics; the other axes change along with them.
std::vector<Layout> LayoutsWithSharedSelections() {
  std::vector<Layout> layouts;
  for (int stages = 1; stages <= 3; ++stages) {
    for (const int cp : {1, 2, 4}) {
      for (const bool fp8 : {false, true}) {
        const auto number = layouts.size();
        Layout layout{.stages = stages, .fp8 = fp8, .shares = true};
        layout.attn_tp = number % 5 == 3 ? 2 : 1;
        layout.lanes = cp * layout.attn_tp;
        layout.virtual_stages = number % 3 == 1 ? 2 : 1;
        layout.chunk = number % 4 < 2 ? 96 : 100000;
        layout.mode = number % 4 == 1 ? parallel::SplitMode::kZigzag : parallel::SplitMode::kInterleave;
        layout.processes = number % 6 == 5;
        layouts.push_back(layout);
      }
    }
  }
  return layouts;
}

INSTANTIATE_TEST_SUITE_P(SharedSelections, LayoutMatrix, testing::ValuesIn(LayoutsWithSharedSelections()),
                         [](const auto& suite) { return NameOf(suite.param); });

INSTANTIATE_TEST_SUITE_P(Matrix, LayoutMatrix, testing::ValuesIn(ChosenLayouts()),
                         [](const auto& suite) { return NameOf(suite.param); });

}  // namespace
}  // namespace sluice::layouts
