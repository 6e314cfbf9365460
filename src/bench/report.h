#pragma once

#include <string>
#include <vector>

#include "bench/json.h"

namespace sluice::bench {

// An HTML page without scripts, styles or pictures from elsewhere, of the results that `sluice bench` writes
// (docs/benchmarking.md): a table for each kind of run, and where more than one value of the axis was
// measured TTFT over context, throughput over concurrency and bubble over chunk size; the timelines there
// are.
std::string RenderReport(const std::vector<Json>& results);

}  // namespace sluice::bench
