#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/checkpoint.h"

namespace sluice::checkpoint {

// The model that a path of the form random:... describes (random_path.h). No file is read and none is
// written; a tensor is made where and when it is loaded. Throws Error(kModelFiles) for a description that
// means no model.
std::unique_ptr<Checkpoint> OpenRandom(const std::filesystem::path& model_path);

}  // namespace sluice::checkpoint
