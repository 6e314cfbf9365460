#include "cli/pipeline_view.h"

#include <fmt/format.h>

namespace sluice::cli {

std::vector<trace::Lane> LanesOf(engine::Job& job, const parallel::Grid& grid) {
  std::vector<trace::Lane> lanes;
  lanes.reserve(grid.world());
  for (int rank = 0; rank < grid.world(); ++rank) {
    lanes.push_back({fmt::format("stage {} lane {}", grid.StageOf(rank), grid.LaneOf(rank)),
                     grid.StageOf(rank), job.Spans(rank)});
  }
  return lanes;
}

trace::BusyShares BusyOf(engine::Job& job, const parallel::Grid& grid) {
  std::vector<trace::BusyPeriod> periods;
  std::vector<int32_t> stages;
  const std::vector<engine::RankState> states = job.States();
  for (int rank = 0; rank < grid.world(); ++rank) {
    periods.push_back(states[rank].heartbeat.period);
    stages.push_back(grid.StageOf(rank));
  }
  return trace::BusySharesOf(periods, stages).value();
}

}  // namespace sluice::cli
