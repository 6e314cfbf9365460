#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/fault_plan.h"

namespace sluice::layouts {

// When a fault strikes. kPublish: the frame that publishes a decode step to the rank.
enum class When { kPrefill, kDecode, kIdle, kStartUp, kPublish };

// What has to come of it.
enum class Outcome {
  kSurvives,  // the right answer, and nobody is named
  kRecovers,  // the soft limit names the rank, then it passes: the right answer
  kStalls,    // the soft limit names the rank, then the hard end does: the client gets the sentence
  kEnds,      // the job ends at once and names the rank
};

struct MatrixCase {
  comm::FaultAction action;
  When when;
  int stage = 0;  // its rank: pp 3, one lane

  std::string Name() const;
  comm::FaultPlan Plan() const;
  Outcome Expected() const;
};

// Every fault at every time on the first, the middle and the last stage.
std::vector<MatrixCase> WholeMatrix();
// One stage for every fault and time, drawn by `seed`.
std::vector<MatrixCase> SampledMatrix(uint64_t seed);

}  // namespace sluice::layouts
