#include "comm/fault_injector.h"

#include <fmt/format.h>

#include <thread>
#include <utility>

#include "base/error.h"

namespace sluice::comm {

FaultInjector::FaultInjector(const FaultPlan& plan, int rank, Hands hands)
    : rank_(rank), hands_(std::move(hands)) {
  for (const Fault& fault : plan.faults) {
    if (fault.rank == rank) armed_.push_back({fault, fault.times});
  }
}

template <typename Matches>
std::optional<Fault> FaultInjector::Take(Matches matches) {
  std::lock_guard lock(mutex_);
  for (Armed& armed : armed_) {
    if (armed.left == 0 || !matches(armed.fault)) continue;
    if (armed.left > 0) --armed.left;
    return armed.fault;
  }
  return std::nullopt;
}

std::optional<Fault> FaultInjector::TakeMessage(FaultWhere where, int64_t step, int peer) {
  return Take([&](const Fault& fault) {
    const bool in_step = fault.action == FaultAction::kSlow
                             ? step >= fault.step
                             : fault.phase == FaultPhase::kStep && step == fault.step;
    const bool here =
        fault.where == where || (fault.where == FaultWhere::kAny && where != FaultWhere::kControl);
    return !StrikesTheRank(fault.action) && in_step && here && (fault.peer < 0 || fault.peer == peer);
  });
}

std::optional<Fault> FaultInjector::TakeFrame(FaultPhase phase, int64_t step) {
  return Take([&](const Fault& fault) {
    // At start-up, a delay without a place is the rank's own: AtStartUp.
    const bool own = phase == FaultPhase::kStartUp && fault.action == FaultAction::kDelay &&
                     fault.where == FaultWhere::kAny;
    return !StrikesTheRank(fault.action) && fault.action != FaultAction::kSlow && !own &&
           fault.phase == phase && (phase != FaultPhase::kIdle || step >= fault.step);
  });
}

void FaultInjector::AtStartUp(trace::Recorder& recorder) {
  while (const auto fault = Take([](const Fault& f) {
           return f.phase == FaultPhase::kStartUp &&
                  (StrikesTheRank(f.action) ||
                   (f.action == FaultAction::kDelay && f.where == FaultWhere::kAny));
         })) {
    if (fault->action == FaultAction::kDelay) {
      const trace::ScopedWait wait(&recorder, "a delay of the fault plan", -1, trace::WaitKind::kOwn);
      std::this_thread::sleep_for(fault->delay);
    } else {
      Strike(*fault);
    }
  }
}

void FaultInjector::AtPass(int64_t step) {
  while (const auto fault = Take([&](const Fault& f) {
           return StrikesTheRank(f.action) && f.phase == FaultPhase::kStep && f.step == step &&
                  (f.where == FaultWhere::kAny || f.where == FaultWhere::kControl);
         })) {
    Strike(*fault);
  }
}

void FaultInjector::BeforeSend(FaultWhere where, int64_t step) {
  while (const auto fault = Take([&](const Fault& f) {
           return StrikesTheRank(f.action) && f.phase == FaultPhase::kStep && f.step == step &&
                  f.where == where;
         })) {
    Strike(*fault);
  }
}

void FaultInjector::WhileIdle(int64_t step, Duration idle) {
  if (idle < kIdleBeforeFault) return;
  while (const auto fault = Take([&](const Fault& f) {
           return StrikesTheRank(f.action) && f.phase == FaultPhase::kIdle && step >= f.step;
         })) {
    Strike(*fault);
  }
}

void FaultInjector::Strike(const Fault& fault) {
  if (fault.action == FaultAction::kDie) return hands_.die();
  if (fault.action == FaultAction::kStop) return hands_.stop();
  const bool in_data = fault.where == FaultWhere::kHop || fault.where == FaultWhere::kCollective ||
                       (fault.where == FaultWhere::kAny && fault.phase == FaultPhase::kStep);
  if (!in_data) return hands_.close_control();
  // Not a lost peer: it is this rank that has closed.
  Fail(ErrorKind::kNetwork, "the fault plan closed the data connections of rank {} in step {}", rank_,
       fault.step);
}

}  // namespace sluice::comm
