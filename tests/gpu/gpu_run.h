#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "engine/offline.h"
#include "engine/rank_host.h"
#include "engine/rank_set.h"

namespace sluice::gpu {

// A model without a file, a back end and a layout of thread ranks (on the GPU: all on one card).
struct GpuRun {
  std::string model;  // random:...
  std::string ops = "cuda";
  int stages = 1;
  int lanes = 1;
  int attn_tp = 1;
  int virtual_stages = 1;
  bool one_owner = false;  // lane 0 holds all experts
  parallel::SplitMode split = parallel::SplitMode::kInterleave;
  int64_t chunk = 100000;    // rows of a step
  int64_t max_running = 64;  // requests that share steps
  bool receives_hold_sm = false;
  std::optional<int> sm_reserve = {};
  Duration wait_limit = std::chrono::seconds(300);
  std::vector<int64_t> graph_rows = {};  // of the decode steps that are recorded
  engine::RankProbes probes = {};
  // Starts the ranks in another way than as threads on one card.
  std::function<std::unique_ptr<engine::RankSet>(const engine::JobSettings&, const checkpoint::Checkpoint&)>
      start = {};
  std::function<void()> before_end = {};  // when all is answered and the ranks are still there
};

// One and two stages of one, two and four lanes, with steps of each of `chunks` rows; those of kZigzagChunk
// are dealt zigzag.
inline constexpr int64_t kZigzagChunk = 96;
std::vector<GpuRun> LayoutsOf(const std::string& model, const std::vector<int64_t>& chunks);

// The layout as the name of a test's case, for INSTANTIATE_TEST_SUITE_P.
std::string LayoutName(const GpuRun& run);
inline constexpr auto kLayoutName = [](const auto& at) { return LayoutName(at.param); };

inline void PrintTo(const GpuRun& run, std::ostream* out) {
  *out << "pp " << run.stages << " cp " << run.lanes / run.attn_tp << " atp " << run.attn_tp << " chunk "
       << run.chunk;
}

struct Answer {
  std::vector<int32_t> tokens;
  std::vector<float> logits;                   // [rows computed, vocabulary]; empty unless asked for
  std::vector<std::vector<std::byte>> caches;  // of lane 0 of each stage
  bool replicas_agree = true;                  // every lane's cache equals lane 0's
};

// `count` tokens below `vocabulary`, a function of the seed alone.
std::vector<int32_t> Prompt(int64_t count, uint64_t seed, int64_t vocabulary);

// Answers all prompts at once, `max_tokens` each, greedily.
std::vector<Answer> RunPrompts(const GpuRun& run, const std::vector<std::vector<int32_t>>& prompts,
                               int64_t max_tokens, bool logits = true);

bool HasHopper();

}  // namespace sluice::gpu
