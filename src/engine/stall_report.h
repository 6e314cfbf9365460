#pragma once

#include <string>

#include "engine/engine.h"
#include "engine/job.h"

namespace sluice::engine {

// The table of all ranks and the verdicts in force, as a value and as text: where each rank is, what it waits
// for and since when, how old its progress and its last word are. A pure function of the records.
StallReport MakeStallReport(const JobRecord& job, const Standing& standing, int64_t now_ns);

}  // namespace sluice::engine
