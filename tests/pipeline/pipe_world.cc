#include "pipe_world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "sleeping_ops.h"

namespace sluice::pipe {
namespace {

// A result leaves inside its pass, so the last record may be written a moment after the answer is there.
std::vector<trace::PassTimes> LastPasses(engine::Job& job, int rank, size_t count, int64_t last_step) {
  const Deadline limit = Clock::now() + std::chrono::seconds(10);
  while (true) {
    std::vector<trace::PassTimes> passes = job.Passes(rank);
    if (passes.size() >= count && passes.back().step == last_step) {
      return {passes.end() - static_cast<int64_t>(count), passes.end()};
    }
    SLUICE_CHECK(Clock::now() < limit, "rank {} has {} records", rank, passes.size());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

double Seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

engine::JobSettings SettingsOf(const Pipe& pipe) {
  engine::JobSettings settings =
      layouts::SettingsOf({.stages = pipe.stages, .virtual_stages = pipe.virtual_stages});
  settings.link_delay = pipe.link;
  return settings;
}

std::unique_ptr<engine::RankSet> StartSleepingRanks(const Pipe& pipe) {
  engine::RankProbes probes;
  probes.wrap_ops = [pipe](int, std::unique_ptr<ops::Ops> real) -> std::unique_ptr<ops::Ops> {
    return std::make_unique<SleepingOps>(real->numerics(), [pipe](int64_t position) {
      return pipe.time(position / kChunkRows) / pipe.virtual_stages;
    });
  };
  return engine::StartThreadRanks(SettingsOf(pipe), layouts::TestCheckpoint(false), probes);
}

PipeRunner::PipeRunner(const Pipe& pipe)
    : pipe_(pipe), runner_(SettingsOf(pipe), kChunkRows, 8, StartSleepingRanks(pipe)) {}

Traced PipeRunner::Run(int64_t chunks) {
  engine::OfflineRequest request;
  request.prompt.assign(static_cast<size_t>(chunks * kChunkRows), 7);
  const int64_t first_step = runner_.job().Passes(0).empty() ? 0 : runner_.job().Passes(0).back().step + 1;
  runner_.Run({request});
  Traced traced;
  for (int stage = 0; stage < pipe_.stages; ++stage) {
    traced.passes.push_back(LastPasses(
        runner_.job(), stage, static_cast<size_t>(chunks * pipe_.virtual_stages), first_step + chunks - 1));
  }
  for (const engine::RankState& state : runner_.job().States())
    traced.periods.push_back(state.heartbeat.period);
  for (const auto& passes : traced.passes) {
    for (size_t i = 0; i < passes.size(); ++i) {
      const trace::Times& times = passes[i].times;
      EXPECT_EQ(times.compute_ns + times.wait_ns + times.hop_ns, passes[i].end_ns - passes[i].begin_ns);
      if (i > 0) {
        EXPECT_EQ(passes[i - 1].end_ns + times.idle_ns, passes[i].begin_ns);
      }
    }
  }
  return traced;
}

double Traced::makespan() const {
  int64_t begin = passes.front().front().begin_ns;
  int64_t end = passes.front().back().end_ns;
  for (const auto& of_stage : passes) {
    begin = std::min(begin, of_stage.front().begin_ns);
    end = std::max(end, of_stage.back().end_ns);
  }
  return Seconds(end - begin);
}

double Traced::compute(int stage) const {
  int64_t sum = 0;
  for (const trace::PassTimes& pass : passes[stage]) sum += pass.times.compute_ns;
  return Seconds(sum);
}

}  // namespace sluice::pipe
