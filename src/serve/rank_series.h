#pragma once

#include <prometheus/labels.h>
#include <prometheus/metric_family.h>

#include <vector>

#include "engine/engine.h"

namespace sluice::serve {

// The series of ranks and stages, from the ranks' last heartbeats: who is up and when it was heard, which
// step it is in, what it computed and sent, and where the time of each stage went. `labels` are on every
// series.
std::vector<prometheus::MetricFamily> RankSeries(const engine::StallReport& report,
                                                 const prometheus::Labels& labels);

}  // namespace sluice::serve
