#include "engine/faults.h"

#include <signal.h>
#include <unistd.h>

#include <utility>

#include "comm/faulty_channel.h"
#include "comm/faulty_communicator.h"
#include "pipeline/messages.h"

namespace sluice::engine {
namespace {

using comm::Fault;
using comm::FaultPhase;

// The plan, and the emulated link of --emulate-link-delay-ms as a slow link of every rank.
comm::FaultPlan WholePlan(const JobSettings& settings) {
  comm::FaultPlan plan = settings.fault_plan;
  for (int rank = 0; rank < settings.grid.world() && settings.link_delay > Duration(0); ++rank) {
    Fault link;
    link.rank = rank;
    link.where = comm::FaultWhere::kHop;
    link.action = comm::FaultAction::kSlow;
    link.latency = settings.link_delay;
    link.times = -1;
    plan.faults.push_back(link);
  }
  return plan;
}

std::optional<Fault> FaultOfRanksFrame(comm::FaultInjector& injector, const comm::Frame& frame) {
  const auto type = static_cast<pipeline::MessageType>(frame.type);
  if (type == pipeline::MessageType::kReady) return injector.TakeFrame(FaultPhase::kStartUp, -1);
  if (type != pipeline::MessageType::kHeartbeat) return std::nullopt;
  const pipeline::Heartbeat heartbeat = pipeline::DecodeHeartbeat(frame.payload);
  if (!heartbeat.wait.has_value() || heartbeat.wait->kind != trace::WaitKind::kWork) return std::nullopt;
  const Duration idle(heartbeat.wait->since_ns);  // still a length of time here (messages.h)
  injector.WhileIdle(heartbeat.place.step, idle);
  if (idle < comm::kIdleBeforeFault) return std::nullopt;
  return injector.TakeFrame(FaultPhase::kIdle, heartbeat.place.step);
}

}  // namespace

std::shared_ptr<comm::FaultInjector> MakeInjector(const JobSettings& settings, int rank, RankKind kind,
                                                  comm::Channel& control) {
  const comm::FaultPlan plan = WholePlan(settings);
  if (plan.empty()) return nullptr;
  comm::FaultInjector::Hands hands;
  hands.close_control = [&control] { control.Close(); };
  if (kind == RankKind::kProcess) {
    hands.die = [] { kill(getpid(), SIGKILL); };
    hands.stop = [] { kill(getpid(), SIGSTOP); };
  } else {
    hands.die = [&control, rank] {
      control.Close();
      Fail(ErrorKind::kRankLost, "the fault plan ended rank {}", rank);
    };
    hands.stop = [] { SLUICE_CHECK(false, "a thread cannot be stopped: CheckRunsInThreads refuses it"); };
  }
  return std::make_shared<comm::FaultInjector>(plan, rank, std::move(hands));
}

std::unique_ptr<comm::Channel> WithRankFaults(std::unique_ptr<comm::Channel> control,
                                              std::shared_ptr<comm::FaultInjector> injector) {
  if (injector == nullptr) return control;
  return comm::MakeFaultyChannel(std::move(control),
                                 [injector = std::move(injector)](const comm::Frame& frame) {
                                   return FaultOfRanksFrame(*injector, frame);
                                 });
}

std::unique_ptr<comm::Channel> WithPublishFaults(std::unique_ptr<comm::Channel> channel,
                                                 const JobSettings& settings, int rank) {
  if (settings.fault_plan.empty()) return channel;
  auto injector =
      std::make_shared<comm::FaultInjector>(settings.fault_plan, rank, comm::FaultInjector::Hands{});
  return comm::MakeFaultyChannel(
      std::move(channel), [injector = std::move(injector)](const comm::Frame& frame) -> std::optional<Fault> {
        if (static_cast<pipeline::MessageType>(frame.type) != pipeline::MessageType::kPublish)
          return std::nullopt;
        return injector->TakeMessage(comm::FaultWhere::kControl, static_cast<int64_t>(frame.step), -1);
      });
}

std::unique_ptr<comm::Communicator> WithDataFaults(std::unique_ptr<comm::Communicator> world,
                                                   std::shared_ptr<comm::FaultInjector> injector) {
  if (injector == nullptr) return world;
  return comm::MakeFaulty(std::move(world), std::move(injector));
}

}  // namespace sluice::engine
