#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_maker.h"
#include "checkpoint/recall_weights.h"
#include "counting_ops.h"
#include "engine/offline.h"
#include "temporary_directory.h"
#include "tensor/counter_random.h"

// The recall checkpoint (checkpoint/recall_weights.h) answers a key with the value beside it, at every depth
// of a context, in every layout; and no longer where the selection loses the pair.
namespace sluice::layouts {
namespace {

constexpr int64_t kVocabulary = 1024;  // of preset tiny
constexpr int64_t kFirstKey = kVocabulary - checkpoint::kRecallKeys - checkpoint::kRecallValues;
constexpr int64_t kFirstValue = kVocabulary - checkpoint::kRecallValues;
constexpr int kRecallingLayer = 2;  // of 4
constexpr int kDepths = 9;

std::shared_ptr<const checkpoint::Checkpoint> MakeRecall(bool fp8, int64_t top_k) {
  static const TemporaryDirectory root;
  const auto directory = root.path() / fmt::format("{}_{}", fp8 ? "fp8" : "f32", top_k);
  if (std::filesystem::exists(directory)) return checkpoint::Checkpoint::Open(directory);
  checkpoint::MakeOptions options;
  options.format = fp8 ? checkpoint::WeightFormat::kFp8 : checkpoint::WeightFormat::kF32;
  options.config_overrides = {fmt::format("index_topk={}", top_k)};
  checkpoint::MakeCheckpoint(directory, options, checkpoint::PlanRecall(options), {});
  return checkpoint::Checkpoint::Open(directory);
}

std::shared_ptr<const checkpoint::Checkpoint> Recall(bool fp8) {
  static const auto exact = MakeRecall(false, 64);
  static const auto quantised = MakeRecall(true, 64);
  return fp8 ? quantised : exact;
}

struct Pair {
  int32_t key = 0;
  int32_t value = 0;
  int64_t at = 0;  // position of the value, one behind the key
};

// Filler with the pairs at even depths, then every key once more: the row of each is asked for its value.
// (That a key is followed by the next one there comes too late to matter: each is asked once.)
struct Haystack {
  std::vector<int32_t> tokens;
  std::vector<Pair> pairs;
  int64_t first_question = 0;
};

Haystack MakeHaystack(int64_t tokens, const std::vector<int32_t>& keys, uint64_t seed) {
  auto random = [&, counter = uint64_t{0}](int64_t below) mutable {
    return static_cast<int32_t>(SplitMix64(seed * 1000003 + counter++) % static_cast<uint64_t>(below));
  };
  const auto count = std::ssize(keys);
  Haystack hay;
  hay.first_question = tokens - count;
  for (int64_t i = 0; i < hay.first_question; ++i) hay.tokens.push_back(7 + random(kFirstKey - 7));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = 1 + i * (hay.first_question - 2) / std::max<int64_t>(count - 1, 1);
    const Pair pair{keys[i], static_cast<int32_t>(kFirstValue + random(checkpoint::kRecallValues)), at};
    hay.tokens[at - 1] = pair.key;
    hay.tokens[at] = pair.value;
    hay.pairs.push_back(pair);
  }
  hay.tokens.insert(hay.tokens.end(), keys.begin(), keys.end());
  return hay;
}

std::vector<int32_t> KeysOverClasses() {
  std::vector<int32_t> keys;
  for (int i = 0; i < kDepths; ++i) keys.push_back(static_cast<int32_t>(kFirstKey + 29 * i + 3));
  return keys;
}

struct RecallLayout {
  const char* name;
  int stages, lanes, attn_tp;
  parallel::SplitMode mode;
  int64_t chunk;
};
void PrintTo(const RecallLayout& layout, std::ostream* out) { *out << layout.name; }
constexpr RecallLayout kOneRank{"pp1", 1, 1, 1, parallel::SplitMode::kInterleave, 100000};

// Which of the pairs are answered with their value.
std::vector<bool> Answered(const RecallLayout& layout,
                           std::shared_ptr<const checkpoint::Checkpoint> checkpoint, const Haystack& hay,
                           const engine::RankProbes& probes = {}) {
  engine::JobSettings settings;
  settings.grid = {layout.stages, layout.lanes, layout.attn_tp, 1};
  settings.split_mode = layout.mode;
  settings.cache_pages = std::ssize(hay.tokens) / 64 + 2;
  settings.wait_limit = std::chrono::seconds(300);
  engine::CheckFits(settings, checkpoint->config(), checkpoint->is_fp8());
  engine::OfflineRunner runner(settings, layout.chunk, 1,
                               engine::StartThreadRanks(settings, std::move(checkpoint), probes));
  engine::OfflineRequest request;
  request.prompt = hay.tokens;
  request.return_logits = true;
  const std::vector<float> logits = runner.Run({request}).front().logits;
  std::vector<bool> answered;
  for (size_t i = 0; i < hay.pairs.size(); ++i) {
    const auto row = logits.begin() + (hay.first_question + static_cast<int64_t>(i)) * kVocabulary;
    answered.push_back(std::max_element(row, row + kVocabulary) - row == hay.pairs[i].value);
  }
  return answered;
}

std::vector<bool> AllBut(int missing) {
  std::vector<bool> all(kDepths, true);
  if (missing >= 0) all[missing] = false;
  return all;
}

using Case = std::tuple<RecallLayout, bool, int64_t>;
class RecallDepths : public testing::TestWithParam<Case> {};

TEST_P(RecallDepths, EveryKeyIsAnsweredWithItsValue) {
  const auto& [layout, fp8, tokens] = GetParam();
  EXPECT_EQ(Answered(layout, Recall(fp8), MakeHaystack(tokens, KeysOverClasses(), 1)), AllBut(-1));
}

std::vector<int64_t> Lengths() {
  const char* longest = std::getenv("SLUICE_RECALL_TOKENS");
  if (longest == nullptr) return {1000};
  std::vector<int64_t> lengths;
  for (int64_t tokens = 1024; tokens <= std::atoll(longest); tokens *= 2) lengths.push_back(tokens);
  return lengths;
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, RecallDepths,
    testing::Combine(
        testing::Values(kOneRank, RecallLayout{"pp2", 2, 1, 1, parallel::SplitMode::kInterleave, 256},
                        RecallLayout{"cp2_zigzag", 1, 2, 1, parallel::SplitMode::kZigzag, 333},
                        RecallLayout{"pp2_cp2", 2, 2, 1, parallel::SplitMode::kInterleave, 320},
                        RecallLayout{"pp4_atp2", 4, 2, 2, parallel::SplitMode::kInterleave, 512}),
        testing::Bool(), testing::ValuesIn(Lengths())),
    [](const auto& suite) {
      return fmt::format("{}_{}_{}", std::get<0>(suite.param).name,
                         std::get<1>(suite.param) ? "fp8" : "exact", std::get<2>(suite.param));
    });

TEST(Recall, A4KContextInBothNumerics) {
  const Haystack hay = MakeHaystack(4096, KeysOverClasses(), 2);
  for (const bool fp8 : {false, true}) EXPECT_EQ(Answered(kOneRank, Recall(fp8), hay), AllBut(-1)) << fp8;
}

// The indexer cannot tell the 32 keys of a class apart: where fewer are selected, the others' values are
// lost.
TEST(Recall, FallsWhereTheKeysOfAClassAreMoreThanIndexTopk) {
  std::vector<int32_t> keys;
  for (int64_t i = 0; i < checkpoint::kRecallClass; ++i) keys.push_back(static_cast<int32_t>(kFirstKey + i));
  const Haystack hay = MakeHaystack(900, keys, 3);
  for (const bool fp8 : {false, true}) {
    const auto count = [&](const auto& model) {
      const auto answered = Answered(kOneRank, model, hay);
      return std::ranges::count(answered, true);
    };
    EXPECT_EQ(count(Recall(fp8)), 32) << fp8;
    EXPECT_LE(count(MakeRecall(fp8, 16)), 16) << fp8;
    EXPECT_LE(count(MakeRecall(fp8, 8)), 8) << fp8;
    EXPECT_GE(count(MakeRecall(fp8, 8)), 4) << fp8;
  }
}

// A key is taken out of what one layer selects; it is the position `dropped` for each row that `from` admits.
class DroppingOps final : public CountingOps {
 public:
  DroppingOps(std::unique_ptr<ops::Ops> inner, OpLog& log, int layer, int64_t dropped)
      : CountingOps(std::move(inner), log), layer_(layer), dropped_(static_cast<int32_t>(dropped)) {}

  void Embed(const Tensor& table, int64_t first_id, std::span<const int32_t> ids, const Tensor& y) override {
    next_layer_ = 0;
    CountingOps::Embed(table, first_id, ids, y);
  }
  void SelectKeys(const ops::IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                  const ops::PagedCache& index_keys, std::span<const ops::RowPlace> places,
                  std::span<const ops::PageTable> pages, const Tensor& selection) override {
    CountingOps::SelectKeys(shape, queries, gates, index_keys, places, pages, selection);
    if (next_layer_++ != layer_) return;
    for (int64_t row = 0; row < selection.rows; ++row) {
      const std::span chosen(selection.Row<int32_t>(row), static_cast<size_t>(selection.cols));
      if (places[row].position == dropped_) continue;  // a row must see something
      const auto gone = std::ranges::remove(chosen, dropped_);
      std::ranges::fill(gone, -1);
    }
  }

 private:
  const int layer_;
  const int32_t dropped_;
  int next_layer_ = 0;
};

TEST(Recall, FallsWhereOneKeyIsDroppedFromTheSelection) {
  const Haystack hay = MakeHaystack(500, KeysOverClasses(), 4);
  for (const bool fp8 : {false, true}) {
    const auto without = [&](int layer, int64_t position) {
      OpLog log;
      engine::RankProbes probes;
      probes.wrap_ops = [&](int, std::unique_ptr<ops::Ops> inner) {
        return std::make_unique<DroppingOps>(std::move(inner), log, layer, position);
      };
      return Answered(kOneRank, Recall(fp8), hay, probes);
    };
    for (const int lost : {1, 4, 7}) {
      const int64_t value_at = hay.pairs[lost].at;
      EXPECT_EQ(without(kRecallingLayer, value_at), AllBut(lost)) << lost << " " << fp8;
      EXPECT_EQ(without(0, value_at - 1), AllBut(lost)) << lost << " " << fp8;  // the value knows no key
      EXPECT_EQ(without(1, value_at), AllBut(-1)) << lost << " " << fp8;        // a layer that passes through
      EXPECT_EQ(without(kRecallingLayer, value_at + 1), AllBut(-1)) << lost << " " << fp8;  // another key
    }
  }
}

}  // namespace
}  // namespace sluice::layouts
