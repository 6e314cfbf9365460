#pragma once

#include <vector>

#include "engine/job.h"
#include "trace/strip.h"

namespace sluice::cli {

// What every rank has done, for a picture.
std::vector<trace::Lane> LanesOf(engine::Job& job, const parallel::Grid& grid);

// Where the ranks' time went in the last busy period; there was one.
trace::BusyShares BusyOf(engine::Job& job, const parallel::Grid& grid);

}  // namespace sluice::cli
