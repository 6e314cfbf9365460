#pragma once

#include <memory>

#include "ops/ops.h"

namespace sluice::ops {

// Every op as its formula stands in ops.h, in double, one loop per index, rounding only where the contract
// says so. Slow; the truth that the other back ends are tested against.
std::unique_ptr<Ops> MakeReferenceOps(Numerics numerics);

}  // namespace sluice::ops
