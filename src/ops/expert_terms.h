#pragma once

#include <cstdint>

// What the sum of a row's experts is made of (Ops::SumTerms, Ops::JoinNodes); also read by kernels.
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

}  // namespace sluice::ops
