#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"

// What goes wrong on purpose, when and where: written by hand or by a test, read from a JSON file, the same
// on every rank of a job. docs/faults.md has the file's format with examples. A plan has no chance in it: the
// same plan on the same requests strikes the same messages.
namespace sluice::comm {

enum class FaultPhase {
  kStep,     // in the step of Fault::step
  kIdle,     // once the rank has been idle for half a second after that step
  kStartUp,  // after the rank has joined, before it is ready
};
enum class FaultWhere { kAny, kHop, kCollective, kControl };
enum class FaultAction { kDelay, kDrop, kDuplicate, kReorder, kCorrupt, kClose, kDie, kStop, kSlow };

const char* NameOf(FaultAction action);
// It is done to a rank, and not to a message.
bool StrikesTheRank(FaultAction action);

struct Fault {
  FaultPhase phase = FaultPhase::kStep;
  int64_t step = -1;  // kSlow: and all steps after it
  int rank = -1;      // at which the fault strikes: it sends the message, ends, or stops
  FaultWhere where = FaultWhere::kAny;
  FaultAction action = FaultAction::kDrop;
  Duration delay{0};             // kDelay, and how long kReorder holds a message back at most
  int64_t bytes_per_second = 0;  // kSlow; 0: no limit
  Duration latency{0};           // kSlow
  int peer = -1;                 // only messages to this rank; -1: to any
  int64_t times = 1;             // messages that are struck; -1: all

  bool operator==(const Fault&) const = default;
};

struct FaultPlan {
  std::vector<Fault> faults;

  bool empty() const { return faults.empty(); }
  bool operator==(const FaultPlan&) const = default;
};

// Reads a plan for a job of `world` ranks. `source` names the file in sentences. Throws Error(kUsage), naming
// the entry, the field and the value, for anything that is not a plan and for a fault that could never
// strike.
FaultPlan ParseFaultPlan(const std::string& json, const std::string& source, int world);
// The same from a file; Error(kUsage) also when it cannot be read.
FaultPlan ReadFaultPlan(const std::string& path, int world);
// As JSON text that ParseFaultPlan reads back.
std::string Print(const FaultPlan& plan);

// Throws Error(kUsage), naming the entry, for faults that need ranks in processes of their own.
void CheckRunsInThreads(const FaultPlan& plan);

}  // namespace sluice::comm
