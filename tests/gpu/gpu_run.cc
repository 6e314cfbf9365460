#include "gpu_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "checkpoint/checkpoint.h"
#include "engine/rank_host.h"
#include "engine/rank_set.h"
#include "ops/cuda/device.h"
#include "tensor/counter_random.h"

namespace sluice::gpu {

std::vector<GpuRun> LayoutsOf(const std::string& model, const std::vector<int64_t>& chunks) {
  std::vector<GpuRun> layouts;
  for (const int stages : {1, 2}) {
    for (const int lanes : {1, 2, 4}) {
      for (const int64_t chunk : chunks) {
        GpuRun& run = layouts.emplace_back(GpuRun{model});
        run.stages = stages;
        run.lanes = lanes;
        run.chunk = chunk;
        if (chunk == kZigzagChunk) run.split = parallel::SplitMode::kZigzag;
      }
    }
  }
  return layouts;
}

std::string LayoutName(const GpuRun& run) {
  std::string name = fmt::format("pp{}_cp{}_chunk{}", run.stages, run.lanes / run.attn_tp, run.chunk);
  if (run.virtual_stages > 1) name += fmt::format("_vpp{}", run.virtual_stages);
  if (run.attn_tp > 1) name += fmt::format("_atp{}", run.attn_tp);
  return name;
}

std::vector<int32_t> Prompt(int64_t count, uint64_t seed, int64_t vocabulary) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t hash = SplitMix64(seed * 1000003 + static_cast<uint64_t>(i));
    prompt.push_back(static_cast<int32_t>(hash % static_cast<uint64_t>(vocabulary)));
  }
  return prompt;
}

std::vector<Answer> RunPrompts(const GpuRun& run, const std::vector<std::vector<int32_t>>& prompts,
                               int64_t max_tokens, bool logits) {
  const std::shared_ptr<const checkpoint::Checkpoint> checkpoint = checkpoint::Checkpoint::Open(run.model);
  engine::JobSettings settings;
  settings.model_path = run.model;
  settings.grid = {run.stages, run.lanes, run.attn_tp, run.virtual_stages};
  settings.split_mode = run.split;
  settings.expert_owners = run.one_owner ? 1 : 0;
  settings.ops = run.ops;
  if (run.receives_hold_sm) settings.hop_receive = engine::HopReceive::kHoldsSm;
  settings.sm_reserve = run.sm_reserve;
  settings.wait_limit = run.wait_limit;
  step::StepLimits largest{0, std::ssize(prompts), 0};
  for (const auto& prompt : prompts) {
    const int64_t tokens = std::ssize(prompt) + max_tokens;
    settings.cache_pages += tokens / ops::kPageTokens + 1;
    largest.rows += std::ssize(prompt);
    largest.positions = std::max(largest.positions, tokens);
  }
  largest.rows = std::min(largest.rows, run.chunk);
  // As a server does; on the host nothing is taken.
  settings.largest_step = largest;
  settings.graph_rows = run.graph_rows;
  engine::CheckFits(settings, checkpoint->config(), checkpoint->is_fp8());
  engine::OfflineRunner runner(settings, run.chunk, run.max_running,
                               run.start ? run.start(settings, *checkpoint)
                                         : engine::StartThreadRanks(settings, checkpoint, run.probes));
  std::vector<engine::OfflineRequest> requests;
  for (const auto& prompt : prompts) {
    engine::OfflineRequest& request = requests.emplace_back();
    request.prompt = prompt;
    request.max_tokens = max_tokens;
    request.return_logits = logits;
  }
  std::vector<Answer> answers;
  for (engine::OfflineResult& result : runner.Run(requests)) {
    Answer& answer = answers.emplace_back();
    answer.tokens = std::move(result.tokens);
    answer.logits = std::move(result.logits);
    for (int stage = 0; stage < run.stages; ++stage) {
      for (int lane = 0; lane < run.lanes; ++lane) {
        auto dump =
            runner.job().DumpCache(settings.grid.Rank(stage, lane), result.pages, result.cached_tokens);
        if (lane == 0) {
          answer.caches.push_back(std::move(dump));
        } else {
          answer.replicas_agree = answer.replicas_agree && dump == answer.caches.back();
        }
      }
    }
  }
  if (run.before_end) run.before_end();
  return answers;
}

bool HasHopper() {
  try {
    ops::cuda::CheckDevice(0);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace sluice::gpu
