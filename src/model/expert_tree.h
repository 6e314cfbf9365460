#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace sluice::model {

// The canonical order in which the outputs of a row's experts are summed, whatever ranks computed them.
//
// The experts form min(16, experts) contiguous groups, the leaves; a leaf sums its experts in ascending id in
// fp32. Leaves are joined by a balanced binary tree, neighbours first; a node without a partner moves up as
// it is. Every node is rounded to the wire type, also when it never leaves its rank. A node none of whose
// experts was chosen is absent, and a join with an absent side is the other side.
//
// The first `owners` lanes of a stage hold whole leaves each (Owned), the others none; each sends the largest
// subtrees that lie within its leaves (Subtrees), so the receiver finds the same nodes, and the same sums,
// for any number of owners.
class ExpertTree {
 public:
  explicit ExpertTree(int64_t experts, int owners = 1);

  struct Node {
    int64_t first_leaf = 0;
    int64_t end_leaf = 0;
    int32_t left = -1;  // -1: a leaf
    int32_t right = -1;
  };
  int64_t leaves() const { return leaves_; }
  int32_t root() const { return static_cast<int32_t>(nodes_.size()) - 1; }
  // Leaves first (node i is leaf i), children before parents, the root last.
  const std::vector<Node>& nodes() const { return nodes_; }
  int64_t LeafOf(int64_t expert) const { return leaf_of_expert_[expert]; }
  // Experts [first, end) of leaves [first_leaf, end_leaf).
  std::pair<int64_t, int64_t> ExpertsOf(int64_t first_leaf, int64_t end_leaf) const {
    return {first_leaf * experts_ / leaves_, end_leaf * experts_ / leaves_};
  }
  // Leaves [first, end) of a lane; empty for some when there are more owners than leaves.
  std::pair<int64_t, int64_t> Owned(int lane) const {
    if (lane >= owners_) return {leaves_, leaves_};
    return {lane * leaves_ / owners_, (lane + 1) * leaves_ / owners_};
  }
  // The largest nodes that lie within leaves [first, end), left to right.
  std::vector<int32_t> Subtrees(int64_t first_leaf, int64_t end_leaf) const;

 private:
  int64_t experts_;
  int owners_;
  int64_t leaves_;
  std::vector<int64_t> leaf_of_expert_;
  std::vector<Node> nodes_;
};

}  // namespace sluice::model
