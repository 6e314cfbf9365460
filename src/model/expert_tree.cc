#include "model/expert_tree.h"

#include <algorithm>

namespace sluice::model {

ExpertTree::ExpertTree(int64_t experts, int owners)
    : experts_(experts), owners_(owners), leaves_(std::min<int64_t>(16, experts)) {
  for (int64_t leaf = 0; leaf < leaves_; ++leaf) {
    nodes_.push_back({leaf, leaf + 1, -1, -1});
    const auto [first, end] = ExpertsOf(leaf, leaf + 1);
    leaf_of_expert_.insert(leaf_of_expert_.end(), end - first, leaf);
  }
  std::vector<int32_t> level(leaves_);
  for (int64_t leaf = 0; leaf < leaves_; ++leaf) level[leaf] = static_cast<int32_t>(leaf);
  while (level.size() > 1) {
    std::vector<int32_t> above;
    for (size_t i = 0; i + 1 < level.size(); i += 2) {
      nodes_.push_back({nodes_[level[i]].first_leaf, nodes_[level[i + 1]].end_leaf, level[i], level[i + 1]});
      above.push_back(static_cast<int32_t>(nodes_.size()) - 1);
    }
    if (level.size() % 2 == 1) above.push_back(level.back());
    level = std::move(above);
  }
}

std::vector<int32_t> ExpertTree::Subtrees(int64_t first_leaf, int64_t end_leaf) const {
  std::vector<int32_t> subtrees;
  for (int64_t leaf = first_leaf; leaf < end_leaf;) {
    // The last node in the list that starts here and ends within is the largest one.
    int32_t largest = static_cast<int32_t>(leaf);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].first_leaf == leaf && nodes_[i].end_leaf <= end_leaf) largest = static_cast<int32_t>(i);
    }
    subtrees.push_back(largest);
    leaf = nodes_[largest].end_leaf;
  }
  return subtrees;
}

}  // namespace sluice::model
