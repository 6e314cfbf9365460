#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/compute_pool.h"
#include "checkpoint/checkpoint.h"
#include "comm/channel.h"
#include "comm/communicator.h"
#include "comm/fault_injector.h"
#include "comm/rendezvous.h"
#include "engine/job_settings.h"
#include "model/stage_model.h"
#include "pipeline/rank.h"
#include "trace/recorder.h"

namespace sluice::engine {

// Ways for a test to look into a rank that runs in its own process.
struct RankProbes {
  std::function<std::unique_ptr<ops::Ops>(int rank, std::unique_ptr<ops::Ops>)> wrap_ops;
  // A communicator of the same ranks that hands on to `world`, which outlives it.
  std::function<std::unique_ptr<comm::Communicator>(int rank, comm::Communicator& world)> wrap_world;
  std::function<void(int rank, model::StageWeights&)> after_load;
  std::function<void(int rank)> when_ready;  // everything is taken, and the rank is about to say so
  std::function<void(const std::string& failure)> when_over;  // the work; everything is still there
};

// The back end `settings` ask for. Throws Error(kUsage) for an unknown name.
std::unique_ptr<ops::Ops> MakeOps(const JobSettings& settings, bool checkpoint_is_fp8, ComputePool& pool);

// What `rank` of a job of these settings is told.
pipeline::RankOptions RankOptionsOf(const JobSettings& settings, const checkpoint::ModelConfig& config,
                                    int rank);

// Loads the rank's part of the model and works until the controller ends it. Errors, also those of loading,
// are reported over `control`; the return value is the sentence, empty for a clean end. `faults` may be null,
// and `shared` where no other rank of this process computes in the same memory.
std::string HostRank(const JobSettings& settings, int rank, const checkpoint::Checkpoint& checkpoint,
                     ComputePool& pool, comm::Communicator& world, comm::Channel& control,
                     trace::Recorder& recorder, comm::FaultInjector* faults, const RankProbes& probes,
                     model::WeightStore* shared);

// Who `rank` says it is when it joins.
comm::Hello HelloOf(const JobSettings& settings, int rank, uint64_t checkpoint_fingerprint);

// The whole life of a rank process: joins the controller at `join_address` with the secret in its environment
// (comm/job_secret.h), builds the data plane, HostRank. Returns the exit code.
int RunRankProcess(const JobSettings& settings, int rank, const std::string& join_address);

}  // namespace sluice::engine
