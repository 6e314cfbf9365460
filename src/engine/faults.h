#pragma once

#include <memory>

#include "comm/channel.h"
#include "comm/communicator.h"
#include "comm/fault_injector.h"
#include "engine/job_settings.h"

// The fault plan of a job, put to work on both ends of a rank's control channel and on its data plane.
// Without a plan, and without an emulated link, nothing is wrapped.
namespace sluice::engine {

// A rank ends as a process does, or as a thread: with its control channel closed and an exception.
enum class RankKind { kProcess, kThread };

// What `rank` inflicts upon itself; null without faults. `control` outlives the result.
std::shared_ptr<comm::FaultInjector> MakeInjector(const JobSettings& settings, int rank, RankKind kind,
                                                  comm::Channel& control);

// The rank's end: its ready frame at start-up, its heartbeats while idle. `injector` may be null.
std::unique_ptr<comm::Channel> WithRankFaults(std::unique_ptr<comm::Channel> control,
                                              std::shared_ptr<comm::FaultInjector> injector);
// The controller's end: the frames that publish steps to `rank`.
std::unique_ptr<comm::Channel> WithPublishFaults(std::unique_ptr<comm::Channel> channel,
                                                 const JobSettings& settings, int rank);
// What the rank sends to others. `injector` may be null.
std::unique_ptr<comm::Communicator> WithDataFaults(std::unique_ptr<comm::Communicator> world,
                                                   std::shared_ptr<comm::FaultInjector> injector);

}  // namespace sluice::engine
