#pragma once

#include <string>
#include <vector>

#include "bench/json.h"
#include "trace/strip.h"

namespace sluice::bench {

// Rank x time as a results file holds it: a list of {label, stage, spans}, a span [begin, end, step] with
// microseconds since the first begin. Only what is computed; gaps are waits.
Json TimelineJson(const std::vector<trace::Lane>& lanes);
// Throws Error(kUsage) for another shape.
std::vector<trace::Lane> LanesOf(const Json& timeline);

// The strip of text, a line a rank, each ended by a line feed.
std::string TimelineText(const std::vector<trace::Lane>& lanes);

}  // namespace sluice::bench
