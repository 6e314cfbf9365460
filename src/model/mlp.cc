#include "model/mlp.h"

#include "model/partial_sum.h"

namespace sluice::model {
namespace {

Tensor Forward(const Pass& pass, const MlpWeights& mlp, const Tensor& h, DType type) {
  const Tensor gate = pass.NewActivation(h.rows, mlp.gate_proj->rows());
  const Tensor up = pass.NewActivation(h.rows, mlp.up_proj->rows());
  pass.ops().Linear(h, *mlp.gate_proj, gate);
  pass.ops().Linear(h, *mlp.up_proj, up);
  pass.ops().SwiGlu(gate, up, gate);
  const Tensor out = pass.New(type, h.rows, mlp.down_proj->rows());
  pass.ops().Linear(gate, *mlp.down_proj, out);
  return out;
}

}  // namespace

Tensor MlpForward(const Pass& pass, const MlpWeights& mlp, const Tensor& h) {
  return Forward(pass, mlp, h, ops::ActivationType(pass.ops().numerics()));
}

Tensor MlpForwardSplit(const Pass& pass, const MlpWeights& mlp, const Tensor& h) {
  const Tensor partial = Forward(pass, mlp, pass.Gather("gather rows for the dense MLP", h), DType::kF32);
  return SumOverRanks(pass, pass.lanes(), "sum the dense MLP", partial, pass.RowsOfLanes());
}

}  // namespace sluice::model
