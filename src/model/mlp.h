#pragma once

#include "model/pass.h"
#include "model/weights.h"

namespace sluice::model {

// h [T, hidden] -> W_down(silu(W_gate h) * (W_up h)) [T, hidden] of type A. Own rows only.
Tensor MlpForward(const Pass& pass, const MlpWeights& mlp, const ops::Activation& h);

// The same where every lane holds a part of the intermediate width (--moe-dense-tp-size tp): all lanes' rows
// are gathered, each lane computes its share of every row's sum, and the shares are added on the lane that
// owns the row (SumOverRanks).
Tensor MlpForwardSplit(const Pass& pass, const MlpWeights& mlp, const ops::Activation& h);

}  // namespace sluice::model
