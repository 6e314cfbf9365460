#include "ops/cuda/expert_sum.h"

#include "ops/cuda/device_rows.h"
#include "ops/cuda/join_ranges.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops::cuda {
namespace {

constexpr int64_t kRows = 130;

class ExpertSums : public OnGpu {};

// Sums of 0 to 8 terms, some of them weighted below 0; rows of y in any order. (Weights that are multiples of
// one number would lead to ties in bf16.)
TEST_F(ExpertSums, AreCloseToTheReference) {
  for (const auto& [in, out_type] : {std::pair{DType::kBF16, DType::kBF16},
                                     {DType::kF32, DType::kBF16},
                                     {DType::kF32, DType::kF32},
                                     {DType::kBF16, DType::kF32}}) {
    for (const int64_t width : {7168, 6144}) {
      std::mt19937_64 random(18);
      const OwnedTensor y = Random(random, in, 3 * kRows, width, 1.0F);
      const Input on_y(y, 32);
      std::normal_distribution<float> weight(0.3F);
      std::vector<ExpertTerm> terms;
      std::vector<int64_t> offsets{0};
      for (int64_t i = 0; i < kRows; ++i) {
        for (int64_t j = 0; j < i % 9; ++j) {
          terms.push_back({static_cast<int32_t>(random() % (3 * kRows)), weight(random)});
        }
        offsets.push_back(std::ssize(terms));
      }
      const OnDevice<ExpertTerm> on_terms(terms);
      const OnDevice<int64_t> on_offsets(offsets);
      Outputs truth;
      truth["sums"] = OwnedTensor(out_type, kRows, width);
      MakeReferenceOps(Numerics::kFp8)->SumTerms(y, terms, offsets, truth["sums"]);
      const auto run = [&, in = in, out_type = out_type](int64_t first, int64_t count) {
        const Output sums(out_type, count, width, 64);
        SumTerms work;
        work.rows = count;
        work.width = width;
        work.y = on_y.Row(0);
        work.y_type = in;
        work.y_stride = on_y.stride();
        work.terms = on_terms.data();
        work.offsets = on_offsets.data() + first;
        work.out = sums.data();
        work.out_type = out_type;
        work.out_stride = sums.stride();
        Must(Enqueue(work, nullptr));
        Outputs out;
        out["sums"] = sums.Get();
        return out;
      };
      ExpectRowsAreRight(run, truth, kRows, std::string(NameOf(in)) + " -> " + std::string(NameOf(out_type)));
    }
  }
}

// Trees of 1 to 8 leaves, the joined nodes behind all leaves, as the model lists them.
struct Forest {
  explicit Forest(int64_t trees) {
    for (int64_t t = 0; t < trees; ++t) leaves += 1 + t % 8;
    nodes = leaves;
    int32_t leaf = 0;
    for (int64_t t = 0; t < trees; ++t) {
      std::vector<int32_t> level;
      for (int64_t i = 0; i < 1 + t % 8; ++i) level.push_back(leaf++);
      while (level.size() > 1) {
        std::vector<int32_t> next;
        for (size_t i = 0; i + 1 < level.size(); i += 2) {
          joins.push_back({level[i], level[i + 1], static_cast<int32_t>(nodes)});
          next.push_back(static_cast<int32_t>(nodes++));
        }
        if (level.size() % 2 == 1) next.push_back(level.back());
        level = next;
      }
      first_join.push_back(std::ssize(joins));
    }
  }
  int64_t leaves = 0;
  int64_t nodes = 0;
  std::vector<NodeJoin> joins;
  std::vector<int64_t> first_join{0};  // of each tree
};

TEST(JoinRanges, AreTheTrees) {
  const Forest forest(50);
  std::vector<int64_t> trees;
  for (const int64_t first : forest.first_join) {
    if (trees.empty() || trees.back() != first) trees.push_back(first);
  }
  EXPECT_EQ(IndependentRanges(forest.joins, forest.nodes), trees);
  EXPECT_EQ(IndependentRanges({}, 3), std::vector<int64_t>{0});
  // A node that comes back at the end holds everything together, read or written.
  std::vector<NodeJoin> joins = forest.joins;
  joins.push_back({0, 1, joins[3].left});
  EXPECT_EQ(IndependentRanges(joins, forest.nodes), (std::vector<int64_t>{0, std::ssize(joins)}));
  // Levels of all trees one after the other cannot be cut, and one join is its own range.
  EXPECT_EQ(IndependentRanges(std::vector<NodeJoin>{{0, 1, 4}, {2, 3, 5}, {4, 5, 6}}, 7),
            (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(IndependentRanges(std::vector<NodeJoin>{{0, 1, 4}, {2, 3, 5}}, 7),
            (std::vector<int64_t>{0, 1, 2}));
}

// One addition and one rounding: the bits of the reference, in one range or many.
TEST_F(ExpertSums, JoinsHaveTheBitsOfTheReference) {
  for (const int64_t width : {7168, 6144}) {
    for (const int64_t trees : {0, 1, 3, 130}) {
      const Forest forest(trees);
      std::mt19937_64 random(19);
      OwnedTensor nodes(DType::kBF16, forest.nodes, width);
      const OwnedTensor leaves = Random(random, DType::kBF16, forest.leaves, width, 1.0F);
      std::memset(nodes.view().data, 0xff, nodes.view().bytes());
      std::memcpy(nodes.view().data, leaves.view().data, leaves.view().bytes());
      OwnedTensor truth(DType::kBF16, forest.nodes, width);
      std::memcpy(truth.view().data, nodes.view().data, nodes.view().bytes());
      MakeReferenceOps(Numerics::kFp8)->JoinNodes(forest.joins, truth);
      const OnDevice<NodeJoin> joins(forest.joins);
      const std::vector<int64_t> cuts = IndependentRanges(forest.joins, forest.nodes);
      const OnDevice<int64_t> ranges(cuts);
      for (const bool cut : {false, true}) {
        const Output on_nodes(nodes, 32);
        JoinNodes work;
        work.width = width;
        work.joins = joins.data();
        work.join_count = std::ssize(forest.joins);
        if (cut) {
          work.ranges = ranges.data();
          work.range_count = std::ssize(cuts) - 1;
        }
        work.nodes = on_nodes.data();
        work.nodes_stride = on_nodes.stride();
        Must(Enqueue(work, nullptr));
        ExpectEqualBits(on_nodes.Get(), truth,
                        std::to_string(trees) + " trees, " + (cut ? "cut" : "in one range"));
      }
    }
  }
}

}  // namespace
}  // namespace sluice::ops::cuda
