#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <set>
#include <tuple>

#include "engine/rank_set.h"
#include "layouts/counting_ops.h"

namespace sluice::aborts {

// Where a rank can be held in a step. One virtual stage, no heads cut.
enum class Point {
  kBegun,      // before the first op of its layers
  kAttention,  // in its first layer: the step's cache rows are written and not read yet
  kLastAdd,    // before the last op of a stage that ends with MoE layers
  kHop,        // its rows of the step are on the way to it
  kToken,      // first stage: the token that the step samples is on the way to it
};

// Holds chosen ranks at chosen places for as long as a test likes. Thread-safe.
class StepGate {
 public:
  struct Place {
    int rank = 0;
    int64_t step = 0;
    Point point = Point::kBegun;
    auto operator<=>(const Place&) const = default;
  };

  // adds_of_last_op: how many Add ops a pass of the rank to be held at kLastAdd has.
  explicit StepGate(int world, int adds_of_last_op = 0);

  // For thread ranks, which must end before the gate does.
  engine::RankProbes Probes();

  void Close(const Place& place);
  // False when the rank has not come there within a minute.
  bool AwaitHeld(const Place& place);
  void Open(const Place& place);
  void OpenAll();

  // Called by the rank: returns at once where the gate is not closed.
  void Reach(const Place& place);

 private:
  // What the rank's own thread counts.
  struct Counted {
    layouts::OpLog log;
    int64_t step = -1;
    int attentions = 0;  // in this step
    int adds = 0;
  };
  void OnCall(int rank, const std::string& op);

  const int adds_of_last_op_;
  std::deque<Counted> ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<Place> closed_;
  std::set<Place> held_;
};

}  // namespace sluice::aborts
