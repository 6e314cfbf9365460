#include "abort_world.h"

#include <thread>

#include "tensor/counter_random.h"

namespace sluice::aborts {
namespace {

bool AskUntil(const std::function<bool()>& condition) {
  const Deadline deadline = Clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

}  // namespace

engine::Request RequestOf(int64_t tokens, int64_t max_tokens, uint64_t seed) {
  engine::Request request;
  const auto vocab = static_cast<uint64_t>(layouts::ShortModel(false)->config().vocab_size);
  for (int64_t i = 0; i < tokens; ++i) {
    const uint64_t hash = SplitMix64(seed * 1000003 + static_cast<uint64_t>(i));
    request.prompt.push_back(static_cast<int32_t>(hash % vocab));
  }
  request.max_tokens = max_tokens;
  request.temperature = seed % 2 == 0 ? 0.0F : 1.0F;
  request.seed = seed;
  request.top_logprobs = 5;
  request.prompt_logprobs = true;
  return request;
}

std::unique_ptr<engine::LocalEngine> StartEngine(const parallel::Grid& grid,
                                                 const engine::EngineOptions& options, int64_t pages,
                                                 int steps_in_flight, const engine::RankProbes& probes) {
  const auto checkpoint = layouts::ShortModel(false);
  engine::JobSettings settings;
  settings.model_path = layouts::ShortModelPath(false);
  settings.grid = grid;
  settings.cache_pages = pages;
  settings.max_steps_in_flight = steps_in_flight;
  return std::make_unique<engine::LocalEngine>(settings, options, checkpoint->config(), checkpoint->is_fp8(),
                                               engine::StartThreadRanks(settings, checkpoint, probes));
}

bool AwaitLoad(const engine::Engine& engine, const std::function<bool(const engine::EngineLoad&)>& wanted) {
  return AskUntil([&] { return wanted(engine.Load()); });
}

bool AwaitIdle(const engine::Engine& engine) {
  return AwaitLoad(engine, [](const engine::EngineLoad& load) {
    return load.running == 0 && load.waiting == 0 && load.used_tokens == 0;
  });
}

bool IsBehind(const engine::RankState& rank, int64_t step) {
  const auto& heartbeat = rank.heartbeat;
  return heartbeat.place.step > step ||
         (heartbeat.place.step == step && heartbeat.wait.has_value() && heartbeat.wait->op == "next step");
}

bool AwaitBehind(engine::Job& job, int rank, int64_t step) {
  return AskUntil([&] { return IsBehind(job.States()[rank], step); });
}

bool AwaitBegun(engine::Job& job, int rank, int64_t step) {
  return AskUntil([&] { return job.States()[rank].heartbeat.place.step >= step; });
}

}  // namespace sluice::aborts
