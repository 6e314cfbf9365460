#pragma once

#include <string>
#include <vector>

namespace sluice::ops {

// Highway's names of instruction sets, best first.
struct InstructionSets {
  std::vector<std::string> compiled;   // the kernels are there for these
  std::vector<std::string> supported;  // by this host
  std::string used;                    // the best that is both; empty: none is
};

InstructionSets CpuInstructionSets();

}  // namespace sluice::ops
