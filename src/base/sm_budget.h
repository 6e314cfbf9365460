#pragma once

#include <algorithm>

namespace sluice {

// How many SMs of a rank's GPU its communication may hold while it computes. A persistent kernel, one block
// on each SM, leaves them: a block whose SM is taken could not start before another has ended.
struct SmBudget {
  int held = 0;

  // Of a GPU's `sms`, those that kernels may take; at least one.
  int Left(int sms) const { return std::max(1, sms - held); }
  bool operator==(const SmBudget&) const = default;
};

}  // namespace sluice
