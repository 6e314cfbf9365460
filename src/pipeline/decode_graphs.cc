#include "pipeline/decode_graphs.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "comm/still_communicator.h"

namespace sluice::pipeline {
namespace {

bool IsDecode(const step::Step& step) {
  return std::ranges::all_of(step.sequences,
                             [](const step::StepSequence& sequence) { return sequence.tokens.size() == 1; });
}

// `rows` sequences of one token.
step::Step DecodeStep(int64_t rows) {
  step::Step step;
  for (int64_t row = 0; row < rows; ++row) {
    step::StepSequence& sequence = step.sequences.emplace_back();
    sequence.sequence = static_cast<uint64_t>(row);
    sequence.tokens = {0};
    sequence.pages = {0};
  }
  return step;
}

}  // namespace

DecodeGraphs::DecodeGraphs(model::StageModel& stage, ops::Ops& ops, Arena& arena, const parallel::Grid& grid,
                           parallel::SplitMode mode)
    : stage_(stage), ops_(ops), arena_(arena), grid_(grid), mode_(mode) {}

std::vector<int64_t> DecodeGraphs::Recordable(const std::vector<int64_t>& sizes,
                                              const step::StepLimits& largest, int lanes) {
  const int64_t most =
      std::min({largest.rows, largest.sequences, lanes > 1 ? model::Moe::kFewRows : largest.rows});
  std::set<int64_t> recordable;
  for (const int64_t size : sizes) {
    if (size > 0 && size <= most) recordable.insert(size);
  }
  return {recordable.begin(), recordable.end()};
}

int64_t DecodeGraphs::MostRows(const std::vector<int64_t>& recordable, const parallel::Grid& grid,
                               parallel::SplitMode mode) {
  return recordable.empty() ? 0 : parallel::MostRows(recordable.back(), grid.lanes, mode);
}

void DecodeGraphs::Record(const std::vector<int64_t>& recordable, int rank,
                          const std::vector<bool>& hands_selection) {
  const auto still = [&](int group_rank, int size) {
    auto group = comm::MakeStill(group_rank, size);
    group->SetFence([this](const StreamMark* mark) { ops_.FinishUpTo(mark); });
    return group;
  };
  const int lane = grid_.LaneOf(rank);
  const auto lanes = still(lane, grid_.lanes);
  const auto heads = grid_.attn_tp > 1 ? still(lane % grid_.attn_tp, grid_.attn_tp) : nullptr;
  const int64_t most_rows = MostRows(recordable, grid_, mode_);
  x_ = OwnedTensor(ops::ActivationType(ops_.numerics()), most_rows, stage_.hidden_size(), ops_.memory());
  if (std::ranges::find(hands_selection, true) != hands_selection.end()) {
    selection_ = OwnedTensor(DType::kI32, most_rows, stage_.config().index_topk, ops_.memory());
  }
  for (const int64_t rows : recordable) {
    const step::Step step = DecodeStep(rows);
    for (int visit = 0; visit < grid_.virtual_stages; ++visit) {
      arena_.Reset();
      const model::Pass pass(step, *lanes, heads.get(), mode_, ops_, arena_);
      ops_.RecordGraph(KeyOf(rows, visit));
      const Tensor x = x_.view().RowRange(0, pass.rows());
      if (!hands_selection.empty() && hands_selection.at(static_cast<size_t>(visit))) {
        const Tensor selection = selection_.view().RowRange(0, pass.rows());
        stage_.Layers(pass, visit, x, nullptr, &selection);
      } else {
        stage_.Layers(pass, visit, x);
      }
      ops_.EndGraph();
    }
    recorded_.insert(rows);
  }
  ops_.Finish();
  stage_.ResetExpertTraffic();
}

bool DecodeGraphs::Has(const step::Step& step) const {
  return recorded_.contains(std::ssize(step.sequences)) && IsDecode(step);
}

void DecodeGraphs::Layers(const model::Pass& pass, int visit, const Tensor& x, const Tensor* selection) {
  const Tensor here = x_.view().RowRange(0, x.rows);
  std::optional<Tensor> selection_here;
  if (selection != nullptr) selection_here = selection_.view().RowRange(0, x.rows);
  std::vector<int64_t> same(static_cast<size_t>(x.rows));
  std::iota(same.begin(), same.end(), 0);
  ops_.CopyRows(x, same, here);
  if (stage_.TakesSelection(visit)) ops_.CopyRows(*selection, same, *selection_here);
  ops_.LaunchGraph(KeyOf(pass.split().rows(), visit));
  stage_.Layers(pass, visit, here, nullptr, selection_here ? &*selection_here : nullptr);
  ops_.EndGraph();
  ops_.CopyRows(here, same, x);
  if (selection != nullptr) ops_.CopyRows(*selection_here, same, *selection);
}

}  // namespace sluice::pipeline
