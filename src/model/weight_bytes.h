#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "checkpoint/checkpoint.h"
#include "model/weights.h"
#include "ops/ops.h"

namespace sluice::model {

// Bytes of memory that LoadStage's weights of `slice` will take on the CPU back end, from the checkpoint's
// headers alone: linears packed in panels of 32 outputs, FP8 ones as codes with their scales in fp8 mode, all
// others in the activation type, vectors in fp32. Without what an allocator adds, which is below a percent.
// `counted`, where given: the keys of the weights that ranks with the same WeightStore hold already, which
// are not counted again; those of this slice are added.
int64_t WeightBytes(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics, const StageSlice& slice,
                    std::set<std::string>* counted = nullptr);

// Of these, the nextn layers'.
int64_t NextnWeightBytes(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics,
                         const StageSlice& slice, std::set<std::string>* counted = nullptr);

}  // namespace sluice::model
