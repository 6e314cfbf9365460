#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "comm/fault_plan.h"
#include "trace/recorder.h"

namespace sluice::comm {

// The faults of a plan that one rank inflicts upon itself, each as often as the plan says. Thread-safe.
class FaultInjector {
 public:
  // How the rank ends, stops and loses its connections. `die` and `close_data` do not return, or throw.
  struct Hands {
    std::function<void()> die;
    std::function<void()> stop;
    std::function<void()> close_control;
  };

  FaultInjector(const FaultPlan& plan, int rank, Hands hands);

  // The fault that strikes a message of this rank, counted as used. `step`: of the pass that sends it.
  std::optional<Fault> TakeMessage(FaultWhere where, int64_t step, int peer);
  // Likewise for a control frame sent at start-up or while idle after `step`.
  std::optional<Fault> TakeFrame(FaultPhase phase, int64_t step);

  // What strikes the rank itself: at start-up, as it begins `step`, before it sends in `step`, and once it
  // has been idle after `step`. A delay at start-up is a wait of `recorder` that has its name.
  void AtStartUp(trace::Recorder& recorder);
  void AtPass(int64_t step);
  void BeforeSend(FaultWhere where, int64_t step);
  void WhileIdle(int64_t step, Duration idle);

 private:
  struct Armed {
    Fault fault;
    int64_t left = 1;  // -1: without end
  };

  template <typename Matches>
  std::optional<Fault> Take(Matches matches);
  void Strike(const Fault& fault);

  const int rank_;
  const Hands hands_;
  std::mutex mutex_;
  std::vector<Armed> armed_;
};

// How long a rank is idle before faults of its idle phase strike.
inline constexpr Duration kIdleBeforeFault = std::chrono::milliseconds(500);

}  // namespace sluice::comm
