#include "ops/cuda/expert_tree_sum.h"

#include <numeric>

#include "ops/cuda/ops_on_gpu.h"
#include "ops/reference/reference_ops.h"

// The experts of rows planned, computed and summed by the GPU back end where the choices are, against the
// reference.
namespace sluice::ops::cuda {
namespace {

constexpr int64_t kWidth = 2304;  // not a whole number of tiles

// What `rows` rows chose, ascending, and how much each counts.
struct Chosen {
  Chosen(std::mt19937_64& random, int64_t rows, int64_t top_k, int32_t experts)
      : ids(DType::kI32, rows, top_k), weights(Random(random, DType::kF32, rows, top_k, 1.0F)) {
    std::vector<int32_t> all(static_cast<size_t>(experts));
    std::iota(all.begin(), all.end(), 0);
    for (int64_t t = 0; t < rows; ++t)
      std::sample(all.begin(), all.end(), ids.view().Row<int32_t>(t), top_k, random);
  }
  OwnedTensor ids, weights;
};

class ExpertPlans : public OpsOnGpu {};

TEST_F(ExpertPlans, AreThoseOfTheReference) {
  std::mt19937_64 random(41);
  const auto reference = MakeReferenceOps(Numerics::kFp8);
  for (const auto& [rows, experts, first, count] : {std::array<int32_t, 4>{0, 8, 0, 8},
                                                    {1, 8, 0, 8},
                                                    {300, 256, 0, 256},
                                                    {300, 256, 64, 64},
                                                    {4097, 256, 192, 64},
                                                    {5, 256, 256, 0},
                                                    {129, 8, 3, 1}}) {
    const Chosen chosen(random, rows, 8, experts);
    const auto plan_of = [&](Ops& ops, const Tensor& ids, Memory& memory) {
      std::vector<OwnedTensor> plan;
      plan.emplace_back(DType::kI32, 1, rows * 8 + 77, memory);
      plan.emplace_back(DType::kI32, count, 3, memory);
      plan.emplace_back(DType::kI32, rows, 8, memory);
      ops.PlanExperts(ids, first, {plan[0], plan[1], plan[2]});
      return plan;
    };
    const auto mine = plan_of(*ops_, ToGpu(chosen.ids), ops_->memory());
    const auto truth = plan_of(*reference, chosen.ids, HostMemory());
    for (size_t i = 0; i < 3; ++i) {
      ExpectEqualBits(ToHost(mine[i]), truth[i], fmt::format("part {} of the plan of {} rows", i, rows));
    }
  }
}

// A row alone, among others, by one lane and by two: the same bits, and those of the tree as the reference
// walks it, but for ties in the fp32 sums of a leaf.
TEST_F(ExpertPlans, SumInTheOrderOfTheTree) {
  std::mt19937_64 random(43);
  const auto reference = MakeReferenceOps(Numerics::kFp8);
  constexpr int64_t kRows = 70;
  for (const int32_t experts : {8, 12, 24, 100, 256}) {
    const Chosen chosen(random, kRows, 8, experts);
    const int32_t count = std::min(experts, kMostLeaves);
    const ExpertLeaves leaves{experts, count};
    const OwnedTensor y = Random(random, DType::kBF16, 8 * kRows, kWidth, 1.0F);
    const OwnedTensor on_y = ToGpu(y);
    const Subtree root{0, count};
    // The pairs of experts [first, end), numbered by row and choice.
    const auto pairs_of = [&](int64_t first, int64_t end) {
      OwnedTensor pairs(DType::kI32, kRows, 8);
      for (int64_t t = 0; t < kRows; ++t) {
        for (int64_t k = 0; k < 8; ++k) {
          const int32_t id = chosen.ids.view().At<int32_t>(t, k);
          pairs.view().At<int32_t>(t, k) = id >= first && id < end ? static_cast<int32_t>(8 * t + k) : -1;
        }
      }
      return pairs;
    };
    const OwnedTensor all = pairs_of(0, experts);
    const OwnedTensor truth(DType::kBF16, kRows, kWidth);
    reference->SumExperts(y, all, {chosen.ids, chosen.weights}, leaves, {&root, 1}, truth);

    const OwnedTensor ids = ToGpu(chosen.ids);
    const OwnedTensor weights = ToGpu(chosen.weights);
    const auto rows_of = [](const OwnedTensor& tensor, int64_t first, int64_t rows) {
      return tensor.view().RowRange(first, rows);
    };
    const OwnedTensor on_all = ToGpu(all);
    const auto sum = [&](int64_t first, int64_t rows) {
      const OwnedTensor out(DType::kBF16, rows, kWidth, ops_->memory());
      ops_->SumExperts(on_y, rows_of(on_all, first, rows),
                       {rows_of(ids, first, rows), rows_of(weights, first, rows)}, leaves, {&root, 1}, out);
      return ToHost(out);
    };
    const OwnedTensor mine = sum(0, kRows);
    ExpectClose(mine, truth, fmt::format("the sums of {} experts", experts));
    for (const int64_t row : {int64_t{0}, int64_t{33}, kRows - 1}) {
      ExpectEqualBits(sum(row, 1), mine.view().RowRange(row, 1), fmt::format("row {} alone", row));
    }

    // Two lanes, the first with an odd number of leaves.
    const int32_t cut = count / 2 / 2 * 2 - 1;
    const int64_t cut_expert = int64_t{cut} * experts / count;
    std::vector<std::vector<Subtree>> of_lane(2);
    for (int32_t leaf = 0, lane = 0; leaf < count;) {
      const int32_t end = lane == 0 ? cut : count;
      int32_t size = 1;
      while (leaf % (2 * size) == 0 && leaf + 2 * size <= end) size *= 2;
      of_lane[static_cast<size_t>(lane)].push_back({leaf, leaf + size});
      leaf += size;
      if (leaf == cut) lane = 1;
    }
    const auto subtree_count = static_cast<int64_t>(of_lane[0].size() + of_lane[1].size());
    const OwnedTensor nodes(DType::kBF16, subtree_count * kRows, kWidth, ops_->memory());
    std::vector<SubtreeRows> subtrees;
    int64_t first_row = 0;
    for (size_t lane = 0; lane < 2; ++lane) {
      const OwnedTensor pairs = ToGpu(lane == 0 ? pairs_of(0, cut_expert) : pairs_of(cut_expert, experts));
      const auto step = std::ssize(of_lane[lane]);
      ops_->SumExperts(on_y, pairs, {ids, weights}, leaves, of_lane[lane],
                       nodes.view().RowRange(first_row, step * kRows));
      ops_->Finish();
      for (int64_t s = 0; s < step; ++s)
        subtrees.push_back({of_lane[lane][static_cast<size_t>(s)], first_row + s, step});
      first_row += step * kRows;
    }
    const OwnedTensor joined(DType::kBF16, kRows, kWidth, ops_->memory());
    ops_->JoinSubtrees(nodes, ids, leaves, subtrees, joined);
    ExpectEqualBits(ToHost(joined), mine, fmt::format("two lanes' sums of {} experts", experts));
  }
}

}  // namespace
}  // namespace sluice::ops::cuda
