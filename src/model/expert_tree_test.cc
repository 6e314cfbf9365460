#include "model/expert_tree.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace sluice::model
