#pragma once

#include <cstdint>

// What the sum of a row's experts is made of (Ops::SumTerms, Ops::JoinNodes, Ops::SumExperts); also read by
// kernels.
namespace sluice::ops {

// One term of a sum of expert outputs: weight * y[row].
struct ExpertTerm {
  int32_t row = 0;
  float weight = 0.0F;
};
// nodes[into] = nodes[left] + nodes[right], rounded to the dtype of the nodes.
struct NodeJoin {
  int32_t left = 0;
  int32_t right = 0;
  int32_t into = 0;
};

// The leaves of the canonical tree (model/expert_tree.h): leaf l holds experts
// [l * experts / count, (l + 1) * experts / count).
struct ExpertLeaves {
  int32_t experts = 0;
  int32_t count = 0;  // at most kMostLeaves
};
inline constexpr int kMostLeaves = 16;

// The node of the tree over leaves [first, end).
struct Subtree {
  int32_t first = 0;
  int32_t end = 0;
};
// The same, and where it is of each row t: row first_row + t * row_step of a tensor of nodes.
struct SubtreeRows {
  Subtree leaves;
  int64_t first_row = 0;
  int64_t row_step = 1;
};

}  // namespace sluice::ops
