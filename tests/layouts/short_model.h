#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/checkpoint.h"

namespace sluice::layouts {

// A random checkpoint, made once per process, whose steps take about a millisecond, for tests of many steps:
// 4 layers (the first dense), 4 experts, 272 tokens, and 16 selected keys, so that the selection matters
// early.
std::shared_ptr<const checkpoint::Checkpoint> ShortModel(bool fp8);
const std::filesystem::path& ShortModelPath(bool fp8);

}  // namespace sluice::layouts
