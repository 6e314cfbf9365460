#include "model/mlp.h"

#include "model/partial_sum.h"

namespace sluice::model {
namespace {

Tensor Forward(const Pass& pass, const MlpWeights& mlp, const ops::Activation& h, DType type) {
  const Tensor gate = pass.NewActivation(h.rows(), mlp.gate_proj->rows());
  const Tensor up = pass.NewActivation(h.rows(), mlp.up_proj->rows());
  pass.ops().Linear(h, *mlp.gate_proj, gate);
  pass.ops().Linear(h, *mlp.up_proj, up);
  const ops::Activation gated = pass.NewForms(mlp.down_proj->reads(), gate);
  pass.ops().SwiGlu(gate, up, gated);
  const Tensor out = pass.New(type, h.rows(), mlp.down_proj->rows());
  pass.ops().Linear(gated, *mlp.down_proj, out);
  return out;
}

}  // namespace

Tensor MlpForward(const Pass& pass, const MlpWeights& mlp, const ops::Activation& h) {
  return Forward(pass, mlp, h, ops::ActivationType(pass.ops().numerics()));
}

Tensor MlpForwardSplit(const Pass& pass, const MlpWeights& mlp, const ops::Activation& h) {
  const ops::Activation read = h.Only(mlp.gate_proj->reads() | mlp.up_proj->reads());
  const Tensor partial = Forward(pass, mlp, pass.Gather("gather rows for the dense MLP", read), DType::kF32);
  return SumOverRanks(pass, pass.lanes(), "sum the dense MLP", partial, pass.RowsOfLanes());
}

}  // namespace sluice::model
