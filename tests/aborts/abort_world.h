#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "answer.h"
#include "engine/local_engine.h"
#include "layouts/short_model.h"
#include "step_gate.h"

namespace sluice::aborts {

// A request of `tokens` prompt tokens that follow from `seed`, and all log-probabilities with it.
engine::Request RequestOf(int64_t tokens, int64_t max_tokens, uint64_t seed);

// An engine over thread ranks of the short model in F32.
std::unique_ptr<engine::LocalEngine> StartEngine(const parallel::Grid& grid,
                                                 const engine::EngineOptions& options, int64_t pages,
                                                 int steps_in_flight, const engine::RankProbes& probes);

// Asks until the engine's load is as wanted; false after a minute.
bool AwaitLoad(const engine::Engine& engine, const std::function<bool(const engine::EngineLoad&)>& wanted);
bool AwaitIdle(const engine::Engine& engine);  // nothing runs or waits and nobody holds a page

// The pass of `step` is behind this rank: it has sent what it had to send.
bool IsBehind(const engine::RankState& rank, int64_t step);
// Ask until that is so, or until the rank has begun the step; false after a minute.
bool AwaitBehind(engine::Job& job, int rank, int64_t step);
bool AwaitBegun(engine::Job& job, int rank, int64_t step);

}  // namespace sluice::aborts
