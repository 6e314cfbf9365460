#include "ops/cpu/instruction_sets.h"

// clang-format off
#include "tensor/simd_targets.h"  // before Highway
#include <hwy/targets.h>
// clang-format on

namespace sluice::ops {

namespace {

// Highway gives the better target the lower bit.
std::vector<std::string> NamesOf(int64_t targets) {
  std::vector<std::string> names;
  for (; targets != 0; targets &= targets - 1) names.emplace_back(hwy::TargetName(targets & -targets));
  return names;
}

}  // namespace

InstructionSets CpuInstructionSets() {
  const int64_t supported = hwy::SupportedTargets();
  const std::vector<std::string> usable = NamesOf(supported & HWY_TARGETS);
  return {NamesOf(HWY_TARGETS), NamesOf(supported), usable.empty() ? "" : usable.front()};
}

}  // namespace sluice::ops
