#include "layout_world.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <utility>

#include "checkpoint/checkpoint_maker.h"
#include "model/shapes.h"
#include "temporary_directory.h"
#include "tensor/counter_random.h"

namespace sluice::layouts {
namespace {

constexpr int64_t kPages = 64;

std::filesystem::path MakeTestCheckpoint(const std::filesystem::path& under, bool fp8, bool shares) {
  checkpoint::MakeOptions options;
  options.preset = shares ? "glm-5.2-78" : "tiny";
  options.format = fp8 ? checkpoint::WeightFormat::kFp8 : checkpoint::WeightFormat::kF32;
  options.seed = 11;
  // Small beside the preset where the layout does not matter; 12 experts so that the canonical tree is
  // lopsided; 9 layers for 8 ranges, so that the cut is not even.
  options.config_overrides = {
      "hidden_size=128",        "num_hidden_layers=9", "first_k_dense_replace=2", "num_attention_heads=4",
      "intermediate_size=1024", "vocab_size=301",      "n_routed_experts=12",     "n_group=2",
      "topk_group=1",           "index_topk=64"};
  if (shares) {
    for (const char* text : {"n_group=1", "index_topk_freq=null", "index_topk_pattern=FFSSSSSFS",
                             "q_lora_rank=128", "num_nextn_predict_layers=0"}) {
      options.config_overrides.emplace_back(text);
    }
  }
  const auto directory = under / fmt::format("{}{}", shares ? "shared_" : "", fp8 ? "fp8" : "f32");
  checkpoint::MakeCheckpoint(directory, options, checkpoint::PlanCheckpoint(options), {});
  return directory;
}

// A rank dumps the layers of its first range, then of its second, ...; the model has them in turn.
std::vector<std::byte> InLayerOrder(const Layout& layout, int64_t tokens,
                                    const std::vector<std::vector<std::byte>>& dumps) {
  const auto& config = TestCheckpoint(layout)->config();
  const auto format = layout.fp8 ? ops::CacheFormat::kFp8 : ops::CacheFormat::kF32;
  std::vector<int64_t> used(dumps.size(), 0);
  std::vector<std::byte> cache;
  const auto cut = parallel::DefaultLayerCut(config.num_hidden_layers, layout.stages, layout.virtual_stages);
  for (size_t range = 0; range < cut.size(); ++range) {
    const size_t stage = range % dumps.size();
    const auto begin = dumps[stage].begin() + used[stage];
    used[stage] += tokens * model::CacheTokenBytes(config, format, cut[range].begin, cut[range].end);
    SLUICE_CHECK(used[stage] <= std::ssize(dumps[stage]));
    cache.insert(cache.end(), begin, dumps[stage].begin() + used[stage]);
  }
  for (size_t stage = 0; stage < dumps.size(); ++stage) SLUICE_CHECK(used[stage] == std::ssize(dumps[stage]));
  return cache;
}

engine::OfflineRequest RequestOf(int64_t tokens, uint64_t seed, int64_t vocab_size) {
  engine::OfflineRequest request;
  for (int64_t i = 0; i < tokens; ++i) {
    const uint64_t hash = SplitMix64(seed * 1000003 + static_cast<uint64_t>(i));
    request.prompt.push_back(static_cast<int32_t>(hash % static_cast<uint64_t>(vocab_size)));
  }
  request.max_tokens = 3;  // the first from the prompt, two decode steps
  request.return_logits = true;
  return request;
}

}  // namespace

std::string NameOf(const Layout& layout) {
  return fmt::format("{}pp{}_cp{}_atp{}_v{}_{}_{}_{}_chunk{}{}{}", layout.shares ? "shared_" : "",
                     layout.stages, layout.lanes / layout.attn_tp, layout.attn_tp, layout.virtual_stages,
                     layout.one_owner ? "oneowner" : "allown", layout.fp8 ? "fp8" : "f32",
                     layout.mode == parallel::SplitMode::kInterleave ? "interleave" : "zigzag", layout.chunk,
                     layout.dense_tp ? "_densetp" : "", layout.processes ? "_processes" : "");
}

std::vector<std::vector<engine::OfflineRequest>> PromptSets(int64_t vocab_size) {
  return {{RequestOf(1, 1, vocab_size)},
          {RequestOf(3, 2, vocab_size)},
          {RequestOf(301, 3, vocab_size)},
          {RequestOf(130, 4, vocab_size), RequestOf(1, 5, vocab_size), RequestOf(77, 6, vocab_size)}};
}

namespace {

struct Made {
  std::filesystem::path path;
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint;
};

const Made& MadeFor(bool fp8, bool shares) {
  static const TemporaryDirectory directory;
  static std::map<std::pair<bool, bool>, Made> made;
  const auto [at, is_new] = made.try_emplace({fp8, shares});
  if (is_new) {
    at->second.path = MakeTestCheckpoint(directory.path(), fp8, shares);
    at->second.checkpoint = checkpoint::Checkpoint::Open(at->second.path);
  }
  return at->second;
}

}  // namespace

std::shared_ptr<const checkpoint::Checkpoint> TestCheckpoint(bool fp8, bool shares) {
  return MadeFor(fp8, shares).checkpoint;
}

engine::JobSettings SettingsOf(const Layout& layout) {
  engine::JobSettings settings;
  settings.model_path = MadeFor(layout.fp8, layout.shares).path;
  settings.grid = {layout.stages, layout.lanes, layout.attn_tp, layout.virtual_stages};
  settings.split_mode = layout.mode;
  settings.expert_owners = layout.one_owner ? 1 : 0;
  settings.dense_tp = layout.dense_tp;
  settings.cache_pages = kPages;
  settings.wait_limit = std::chrono::seconds(60);
  engine::CheckFits(settings, TestCheckpoint(layout)->config(), layout.fp8);
  return settings;
}

Answers RunLayout(const Layout& layout, std::vector<OpLog>* logs) {
  const engine::JobSettings settings = SettingsOf(layout);
  const auto checkpoint = TestCheckpoint(layout);
  engine::RankProbes probes;
  if (logs != nullptr) {
    probes.wrap_ops = [logs](int rank, std::unique_ptr<ops::Ops> ops) {
      return std::make_unique<CountingOps>(std::move(ops), (*logs)[rank]);
    };
  }
  engine::ProcessPlan plan;
  plan.program = SLUICE_PROGRAM;
  engine::OfflineRunner runner(settings, layout.chunk, 8,
                               layout.processes
                                   ? engine::StartProcessRanks(settings, checkpoint->fingerprint(), plan)
                                   : engine::StartThreadRanks(settings, checkpoint, probes));
  Answers answers;
  for (const auto& requests : PromptSets(checkpoint->config().vocab_size)) {
    for (engine::OfflineResult& result : runner.Run(requests)) {
      std::vector<std::vector<std::byte>> dumps;  // of lane 0, by stage
      for (int stage = 0; stage < layout.stages; ++stage) {
        std::vector<std::byte>& first = dumps.emplace_back();
        for (int lane = 0; lane < layout.lanes; ++lane) {
          auto dump =
              runner.job().DumpCache(settings.grid.Rank(stage, lane), result.pages, result.cached_tokens);
          if (lane == 0) {
            first = std::move(dump);
          } else {
            answers.replicas_agree = answers.replicas_agree && dump == first;
          }
        }
      }
      answers.caches.push_back(InLayerOrder(layout, result.cached_tokens, dumps));
      answers.rows += result.cached_tokens;
      answers.results.push_back(std::move(result));
    }
  }
  answers.states = runner.job().States();
  for (int rank = 0; rank < settings.grid.world(); ++rank) answers.spans.push_back(runner.job().Spans(rank));
  return answers;
}

}  // namespace sluice::layouts
