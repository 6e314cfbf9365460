#include "fault_job.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <thread>

namespace sluice::layouts {
namespace {

constexpr Duration kLook = std::chrono::milliseconds(20);

bool Until(Deadline deadline, const std::function<bool()>& happened) {
  while (!happened()) {
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

}  // namespace

engine::JobSettings FaultSettings(comm::FaultPlan plan, Duration soft, Duration hard) {
  Layout layout;
  layout.stages = kStages;
  engine::JobSettings settings = SettingsOf(layout);
  settings.fault_plan = std::move(plan);
  settings.stall_limit = soft;
  settings.wait_limit = hard;
  return settings;
}

void Client::Ask(engine::Engine& engine) {
  engine::Request request;
  for (int64_t i = 0; i < kPromptRows; ++i) request.prompt.push_back(static_cast<int32_t>(3 + i * 37 % 290));
  request.max_tokens = kAnswerTokens;
  request.temperature = 0.0F;
  try {
    engine.Submit(std::move(request), [this](engine::Event event) {
      std::lock_guard lock(mutex_);
      tokens_.insert(tokens_.end(), event.tokens.begin(), event.tokens.end());
      if (!event.finish.has_value()) return;
      error_ = event.error;
      ended_ = true;
      changed_.notify_all();
    });
  } catch (const Error& error) {
    std::lock_guard lock(mutex_);
    error_ = error.what();
    ended_ = true;
  }
}

bool Client::WaitUntil(Deadline deadline) {
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline, [this] { return ended_; });
}

const std::vector<int32_t>& RightAnswer() {
  static const std::vector<int32_t> tokens = [] {
    FaultJob job(FaultSettings({}, std::chrono::seconds(30), std::chrono::seconds(60)));
    Client client;
    client.Ask(job.engine());
    SLUICE_CHECK(client.WaitUntil(Clock::now() + std::chrono::seconds(60)) && client.error().empty(), "{}",
                 client.error());
    return client.tokens();
  }();
  return tokens;
}

FaultJob::FaultJob(const engine::JobSettings& settings)
    : FaultJob(settings, [] {
        engine::ProcessPlan plan;
        plan.program = SLUICE_PROGRAM;
        return plan;
      }()) {}

FaultJob::FaultJob(const engine::JobSettings& settings, const engine::ProcessPlan& plan) {
  const auto checkpoint = TestCheckpoint(false);
  auto ranks = engine::StartProcessRanks(settings, checkpoint->fingerprint(), plan);
  for (int rank = 0; rank < settings.grid.world(); ++rank) pids_.push_back(ranks->ProcessId(rank));
  engine::EngineOptions options;
  options.chunk_rows = kChunk;
  try {
    engine_ = std::make_unique<engine::LocalEngine>(settings, options, checkpoint->config(), false,
                                                    std::move(ranks));
  } catch (const Error& error) {
    throw Error(error.kind(), error.what() + Leftovers(pids_));
  }
}

engine::StallReport FaultJob::WaitForVerdict(Deadline deadline) {
  engine::StallReport report;
  Until(deadline, [&] {
    report = engine_->Report();
    return !report.verdict.empty();
  });
  return report;
}

bool FaultJob::WaitForRecovery(Deadline deadline) {
  return Until(deadline, [&] { return engine_->Report().verdict.empty(); });
}

bool FaultJob::WaitForEnd(Deadline deadline) {
  return Until(deadline, [&] { return engine_->Report().ended; });
}

std::string FaultJob::EndAndLookForLeftovers() {
  engine_.reset();
  return Leftovers(pids_);
}

std::string Leftovers(const std::vector<int>& pids) {
  std::string left;
  for (const int pid : pids) {
    if (pid > 0 && kill(pid, 0) == 0) left += fmt::format("; process {} is left", pid);
  }
  return left;
}

std::vector<std::string> SharedLeavings() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) names.push_back(entry.path());
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::temp_directory_path())) {
    if (std::filesystem::exists(entry.path() / "control")) names.push_back(entry.path());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace sluice::layouts
