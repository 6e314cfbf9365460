#pragma once

#include <cstdint>
#include <string>

namespace sluice::bench {

// The widest instruction set the kernels run on here, and its fp32 lanes.
struct VectorUnit {
  std::string name;
  int lanes = 0;
};
VectorUnit WidestVectorUnit();

// Runs `rounds` rounds of independent fused multiply-adds on one thread; returns the floating point
// operations done (2 per lane and instruction).
double RunFmas(int64_t rounds);

// Clock of the calling core in Hz, from a chain of dependent 64-bit multiplications of 3 cycles each.
double MeasureClock();

}  // namespace sluice::bench
