#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "model/stage_model.h"
#include "parallel/grid.h"
#include "step/step.h"

namespace sluice::pipeline {

// The layers of a rank's decode passes as the back end has recorded them (Ops::RecordGraph): a graph for each
// visit and each number of rows, of steps in which every sequence has one row. What lies around the layers
// (embedding, hop, head, sampling) is enqueued op by op, as is every other pass. Between collectives of the
// lanes, for which the host waits, lies one piece of a graph.
class DecodeGraphs {
 public:
  DecodeGraphs(model::StageModel& stage, ops::Ops& ops, Arena& arena, const parallel::Grid& grid,
               parallel::SplitMode mode);

  // Of `sizes`, rows of a step, those that can be recorded where steps have up to `largest` rows and
  // sequences; ascending. Over several lanes only steps whose experts are not planned by the host.
  static std::vector<int64_t> Recordable(const std::vector<int64_t>& sizes, const step::StepLimits& largest,
                                         int lanes);
  // Rows of the largest pass of a lane: so many, of what is handed over with them, it keeps in memory beside
  // what ops keep inside.
  static int64_t MostRows(const std::vector<int64_t>& recordable, const parallel::Grid& grid,
                          parallel::SplitMode mode);

  // Records the graphs. Nothing is computed, sent, or counted as sent. `rank` is this rank's;
  // `hands_selection`, by visit, whether Layers will be given a selection; empty: never.
  void Record(const std::vector<int64_t>& recordable, int rank,
              const std::vector<bool>& hands_selection = {});

  bool Has(const step::Step& step) const;
  // StageModel::Layers of a pass of a step that it has.
  void Layers(const model::Pass& pass, int visit, const Tensor& x, const Tensor* selection = nullptr);

 private:
  int64_t KeyOf(int64_t rows, int visit) const { return rows * grid_.virtual_stages + visit; }

  model::StageModel& stage_;
  ops::Ops& ops_;
  Arena& arena_;
  const parallel::Grid grid_;
  const parallel::SplitMode mode_;
  std::set<int64_t> recorded_;
  // Of a pass, where the graphs have them: rows, and the selection that comes or goes with them.
  OwnedTensor x_;
  OwnedTensor selection_;
};

}  // namespace sluice::pipeline
