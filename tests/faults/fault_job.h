#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/local_engine.h"
#include "layout_world.h"

// One job of three stages, a rank process each, with an engine in front of it: what the fault tests break.
namespace sluice::layouts {

inline constexpr int kStages = 3;
inline constexpr int64_t kChunk = 16;
inline constexpr int64_t kPromptRows = 6 * kChunk;
inline constexpr int64_t kAnswerTokens = 8;
// Steps are numbered from 0: six chunks of the prompt, the last of which samples, then one step a token.
inline constexpr int64_t kPrefillStep = 3;
inline constexpr int64_t kLastChunkStep = 5;
inline constexpr int64_t kDecodeStep = 8;
inline constexpr int64_t kLastStep = 12;

engine::JobSettings FaultSettings(comm::FaultPlan plan, Duration soft, Duration hard);

// What a client of the engine got.
class Client {
 public:
  void Ask(engine::Engine& engine);
  // False when no answer has come by then.
  bool WaitUntil(Deadline deadline);
  // After WaitUntil: the tokens, or the sentence of the error.
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::string& error() const { return error_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  std::vector<int32_t> tokens_;
  std::string error_;
};

// The answer of a job without faults.
const std::vector<int32_t>& RightAnswer();

class FaultJob {
 public:
  // Throws Error(kRankLost) with the verdict when the job ends before it is ready; then, too, nothing is
  // left.
  FaultJob(const engine::JobSettings& settings, const engine::ProcessPlan& plan);
  explicit FaultJob(const engine::JobSettings& settings);

  engine::LocalEngine& engine() { return *engine_; }
  int pid(int rank) const { return pids_[rank]; }
  // The first verdict of the soft limit, or of the end, by then; named_rank -1: none came.
  engine::StallReport WaitForVerdict(Deadline deadline);
  // Until the stall is over or the job has ended; false when neither happened.
  bool WaitForRecovery(Deadline deadline);
  bool WaitForEnd(Deadline deadline);
  // Ends the job; a sentence for every process of it that is left.
  std::string EndAndLookForLeftovers();

 private:
  std::unique_ptr<engine::LocalEngine> engine_;
  std::vector<int> pids_;
};

// Sentences for processes that are still there.
std::string Leftovers(const std::vector<int>& pids);
// The entries of /dev/shm and the sockets of jobs in the temporary directory.
std::vector<std::string> SharedLeavings();

}  // namespace sluice::layouts
