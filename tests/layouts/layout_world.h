#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "counting_ops.h"
#include "engine/offline.h"

namespace sluice::layouts {

struct Layout {
  int stages = 1;
  int lanes = 1;  // of a stage: cp x attn_tp
  parallel::SplitMode mode = parallel::SplitMode::kInterleave;
  int64_t chunk = 100000;  // rows of a step
  bool processes = false;
  int attn_tp = 1;
  int virtual_stages = 1;
  bool one_owner = false;  // lane 0 holds all experts
  bool dense_tp = false;
  bool fp8 = false;
  bool shares = false;  // the model's layers share selections
  bool operator==(const Layout&) const = default;
};
std::string NameOf(const Layout& layout);
inline void PrintTo(const Layout& layout, std::ostream* out) { *out << NameOf(layout); }

// The prompts that every layout answers: 1 token; 3 tokens, fewer than four lanes; 301, divisible by no
// number of lanes; three ragged ones at once.
std::vector<std::vector<engine::OfflineRequest>> PromptSets(int64_t vocab_size);

// A random checkpoint made once per process: F32 (exact numerics) or FP8; a DeepSeek-V3.2, or a GLM-5.2 whose
// indexers, FFSSSSSFS, leave every cut into two or three stages inside a run of layers that share one
// selection.
std::shared_ptr<const checkpoint::Checkpoint> TestCheckpoint(bool fp8, bool shares = false);
inline std::shared_ptr<const checkpoint::Checkpoint> TestCheckpoint(const Layout& layout) {
  return TestCheckpoint(layout.fp8, layout.shares);
}

engine::JobSettings SettingsOf(const Layout& layout);

// Everything that must not depend on the layout, and the counts that must.
struct Answers {
  std::vector<engine::OfflineResult> results;  // of all prompt sets, one after the other
  std::vector<std::vector<std::byte>>
      caches;                             // of each result: all layers in order, from lane 0 of each stage
  bool replicas_agree = true;             // every lane's cache equals lane 0's
  std::vector<engine::RankState> states;  // at the end
  std::vector<std::vector<trace::Span>> spans;  // by rank
  int64_t rows = 0;                             // T over all steps
};
// `logs`: one per rank, or null; thread ranks only.
Answers RunLayout(const Layout& layout, std::vector<OpLog>* logs);

}  // namespace sluice::layouts
