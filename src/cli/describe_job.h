#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "cli/layout_flags.h"
#include "cli/reference_flags.h"
#include "engine/job_settings.h"

namespace sluice::cli {

// Logs what the flags come to on this host: ranks, memory, steps, layers that are not computed, and `notes`
// on flags that change nothing here.
void DescribeJob(const LayoutFlags& layout, const ReferenceFlags& reference,
                 const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint,
                 const std::vector<std::string>& notes);

}  // namespace sluice::cli
