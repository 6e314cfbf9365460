#include "model/expert_tree.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>

#include "model/expert_exchange.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/reference/reference_ops.h"

namespace sluice::model {
namespace {

TEST(ExpertTree, EveryExpertHasOneLeafAndEveryNodeCoversItsChildren) {
  for (int64_t experts : {1, 2, 3, 5, 12, 16, 17, 24, 100, 256}) {
    const ExpertTree tree(experts);
    EXPECT_EQ(tree.leaves(), std::min<int64_t>(16, experts));
    for (int64_t e = 0; e < experts; ++e) {
      const int64_t leaf = tree.LeafOf(e);
      const auto [first, end] = tree.ExpertsOf(leaf, leaf + 1);
      EXPECT_TRUE(first <= e && e < end) << experts << " experts, expert " << e;
    }
    const auto& nodes = tree.nodes();
    for (const auto& node : nodes) {
      if (node.left < 0) continue;
      EXPECT_EQ(nodes[node.left].first_leaf, node.first_leaf);
      EXPECT_EQ(nodes[node.left].end_leaf, nodes[node.right].first_leaf);
      EXPECT_EQ(nodes[node.right].end_leaf, node.end_leaf);
    }
    EXPECT_EQ(nodes[tree.root()].first_leaf, 0);
    EXPECT_EQ(nodes[tree.root()].end_leaf, tree.leaves());
  }
}

TEST(ExpertTree, SubtreesOfTheOwnersCoverTheLeavesOnceAndAreNodesOfTheTree) {
  for (int64_t experts : {1, 3, 6, 16, 256}) {
    for (int owners : {1, 2, 3, 4, 5, 8, 16, 20}) {
      const ExpertTree tree(experts, owners);
      int64_t next_leaf = 0;
      for (int lane = 0; lane < owners + 2; ++lane) {
        const auto [first, end] = tree.Owned(lane);
        EXPECT_TRUE(lane < owners || first == end) << "lane " << lane << " owns nothing";
        for (const int32_t node : tree.Subtrees(first, end)) {
          EXPECT_EQ(tree.nodes()[node].first_leaf, next_leaf);
          next_leaf = tree.nodes()[node].end_leaf;
        }
        EXPECT_EQ(next_leaf, end);
      }
      EXPECT_EQ(next_leaf, tree.leaves());
    }
  }
}

TEST(ExpertTree, AnAlignedOwnerSendsOneSubtree) {
  for (int owners : {1, 2, 4, 8, 16}) {
    const ExpertTree tree(256, owners);
    for (int owner = 0; owner < owners; ++owner) {
      const auto [first, end] = tree.Owned(owner);
      EXPECT_EQ(tree.Subtrees(first, end).size(), 1U);
    }
  }
}

// Ops::SumExperts knows the tree by its rule alone; here it is walked node by node. Some experts belong to
// somebody else.
TEST(ExpertTree, IsTheTreeOfSumExperts) {
  constexpr int64_t kRows = 40;
  constexpr int64_t kWidth = 21;
  ComputePool alone(0);
  std::mt19937_64 random(11);
  std::normal_distribution<float> normal;
  for (const auto numerics : {ops::Numerics::kExact, ops::Numerics::kFp8}) {
    const DType type = ops::ActivationType(numerics);
    const auto ops = ops::MakeCpuOps(numerics, alone);
    for (const int32_t experts : {1, 3, 6, 12, 16, 24, 100, 256}) {
      const ExpertTree tree(experts);
      const int64_t top_k = std::min(experts, 8);
      const OwnedTensor ids(DType::kI32, kRows, top_k);
      const OwnedTensor weights(DType::kF32, kRows, top_k);
      const OwnedTensor pairs(DType::kI32, kRows, top_k);
      const OwnedTensor y(type, kRows * top_k, kWidth);
      std::vector<int32_t> all(static_cast<size_t>(experts));
      std::iota(all.begin(), all.end(), 0);
      std::vector<ops::ExpertTerm> terms;
      std::vector<int64_t> offsets{0};
      std::vector<std::vector<int32_t>> leaves(kRows, std::vector<int32_t>(tree.nodes().size(), kAbsent));
      for (int64_t t = 0; t < kRows; ++t) {
        std::sample(all.begin(), all.end(), ids.view().Row<int32_t>(t), top_k, random);
        for (int64_t k = 0; k < top_k; ++k) {
          const auto pair = static_cast<int32_t>(t * top_k + k);
          weights.view().At<float>(t, k) = normal(random);
          for (int64_t c = 0; c < kWidth; ++c) StoreFloat(y, pair, c, normal(random));
          const bool mine = random() % 5 != 0 || k == 0;
          pairs.view().At<int32_t>(t, k) = mine ? pair : -1;
          if (!mine) continue;
          auto& leaf = leaves[static_cast<size_t>(t)][tree.LeafOf(ids.view().At<int32_t>(t, k))];
          if (leaf == kAbsent) {
            leaf = static_cast<int32_t>(offsets.size()) - 1;
            offsets.push_back(offsets.back());
          }
          terms.push_back({pair, weights.view().At<float>(t, k)});
          ++offsets.back();
        }
      }
      const auto sums = std::ssize(offsets) - 1;
      JoinPlan plan(tree, sums);
      std::vector<int64_t> roots;
      for (const auto& known : leaves) roots.push_back(plan.Join(tree.root(), known));
      const OwnedTensor nodes(type, plan.rows(), kWidth);
      const OwnedTensor expected(type, kRows, kWidth);
      ops->SumTerms(y, terms, offsets, nodes.view().RowRange(0, sums));
      ops->JoinNodes(plan.joins(), nodes);
      ops->CopyRows(nodes, roots, expected);

      const OwnedTensor got(type, kRows, kWidth);
      const ops::Subtree root{0, static_cast<int32_t>(tree.leaves())};
      ops->SumExperts(y, pairs, {ids, weights}, {experts, root.end}, {&root, 1}, got);
      EXPECT_EQ(std::memcmp(got.view().data, expected.view().data, got.view().bytes()), 0)
          << experts << " experts";
    }
  }
}

}  // namespace
}  // namespace sluice::model
