#include "matrix_cases.h"

#include <fmt/format.h>

#include <array>
#include <random>

#include "fault_job.h"

namespace sluice::layouts {
namespace {

using comm::Fault;
using comm::FaultAction;
using comm::FaultPhase;
using comm::FaultWhere;

constexpr std::array kActions{FaultAction::kDelay,   FaultAction::kDrop,    FaultAction::kDuplicate,
                              FaultAction::kReorder, FaultAction::kCorrupt, FaultAction::kClose,
                              FaultAction::kDie,     FaultAction::kStop,    FaultAction::kSlow};
constexpr std::array kTimes{When::kPrefill, When::kDecode, When::kIdle, When::kStartUp, When::kPublish};

bool StrikesMessages(FaultAction action) {
  return action != FaultAction::kClose && action != FaultAction::kDie && action != FaultAction::kStop;
}

const char* NameOfTime(When when) {
  switch (when) {
    case When::kPrefill:
      return "prefill";
    case When::kDecode:
      return "decode";
    case When::kIdle:
      return "idle";
    case When::kStartUp:
      return "start_up";
    case When::kPublish:
      return "publish";
  }
  return "?";
}

// The frame of a step has no slow link, and what strikes the rank itself is in the other columns.
bool Exists(FaultAction action, When when) {
  return when != When::kPublish || (StrikesMessages(action) && action != FaultAction::kSlow);
}

}  // namespace

std::string MatrixCase::Name() const {
  return fmt::format("{}_{}_stage{}", comm::NameOf(action), NameOfTime(when), stage);
}

comm::FaultPlan MatrixCase::Plan() const {
  Fault fault;
  fault.action = action;
  fault.rank = stage;
  if (action == FaultAction::kDelay) fault.delay = std::chrono::milliseconds(3500);
  if (action == FaultAction::kReorder) fault.delay = std::chrono::seconds(1);
  if (action == FaultAction::kSlow) {
    fault.where = FaultWhere::kHop;
    fault.latency = std::chrono::milliseconds(20);
    fault.bytes_per_second = 1 << 20;
    fault.times = -1;
  }
  switch (when) {
    case When::kPrefill:
      fault.step = kPrefillStep;
      // The last stage sends nothing before the last chunk: then it sends the sampled token.
      if (StrikesMessages(action) && stage == kStages - 1) fault.step = kLastChunkStep;
      break;
    case When::kDecode:
      fault.step = kDecodeStep;
      break;
    case When::kPublish:
      fault.step = kDecodeStep;
      fault.where = FaultWhere::kControl;
      break;
    case When::kIdle:
      fault.phase = FaultPhase::kIdle;
      fault.step = kLastStep;
      // Links are idle then: the next request finds this one slow.
      if (action == FaultAction::kSlow) {
        fault.phase = FaultPhase::kStep;
        fault.step = kLastStep + 1;
      }
      break;
    case When::kStartUp:
      fault.phase = FaultPhase::kStartUp;
      if (action == FaultAction::kDelay) fault.delay = std::chrono::seconds(20);
      break;
  }
  return {{fault}};
}

Outcome MatrixCase::Expected() const {
  const bool on_control = when == When::kIdle || when == When::kStartUp || when == When::kPublish;
  switch (action) {
    case FaultAction::kDelay:
      return when == When::kStartUp ? Outcome::kStalls : Outcome::kRecovers;
    case FaultAction::kDrop:
      return when == When::kIdle || when == When::kStartUp ? Outcome::kEnds : Outcome::kStalls;
    case FaultAction::kDuplicate:
    case FaultAction::kReorder:
      return on_control ? Outcome::kEnds : Outcome::kSurvives;
    case FaultAction::kCorrupt:
    case FaultAction::kClose:
    case FaultAction::kDie:
      return Outcome::kEnds;
    case FaultAction::kStop:
      return Outcome::kStalls;
    case FaultAction::kSlow:
      return Outcome::kSurvives;
  }
  return Outcome::kEnds;
}

std::vector<MatrixCase> WholeMatrix() {
  std::vector<MatrixCase> cases;
  for (const FaultAction action : kActions) {
    for (const When when : kTimes) {
      for (int stage = 0; stage < kStages && Exists(action, when); ++stage)
        cases.push_back({action, when, stage});
    }
  }
  return cases;
}

std::vector<MatrixCase> SampledMatrix(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<MatrixCase> cases;
  for (const MatrixCase& one : WholeMatrix()) {
    if (one.stage == 0) cases.push_back({one.action, one.when, static_cast<int>(random() % kStages)});
  }
  return cases;
}

}  // namespace sluice::layouts
