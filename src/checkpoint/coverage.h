#pragma once

#include "checkpoint/defects.h"
#include "checkpoint/inventory.h"
#include "checkpoint/model_config.h"

namespace sluice::checkpoint {

// Compares the tensors of a directory with those its config calls for, both ways, and adds a defect for each
// that is missing, unknown, misshapen or of a dtype it may not have. Fills nextn_names and fp8.
void CheckCoverage(const ModelConfig& config, Inventory& inventory, Defects& defects);

}  // namespace sluice::checkpoint
