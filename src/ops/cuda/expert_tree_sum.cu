#include <algorithm>

#include "ops/cuda/expert_tree_sum.h"
#include "ops/cuda/row_math.cuh"

namespace sluice::ops::cuda {
namespace {

// Eight channels of every node of a row's tree, or of a subtree of up to `kLeaves` leaves, bf16, each at the
// place of its first leaf. The places are registers, which is why a small subtree has few: they are only ever
// named by constants.
template <int kLeaves>
struct TreeOfRow {
  uint4 at[kLeaves];
  uint32_t present = 0;  // bit l: there is a value at place l

  // What is there joined, neighbours first; a place without a value is an absent side. The root is at 0.
  __device__ void Join() {
#pragma unroll
    for (int half = 1; half < kLeaves; half *= 2) {
#pragma unroll
      for (int left = 0; left < kLeaves; left += 2 * half) {
        if ((present >> (left + half) & 1U) == 0) continue;
        if ((present >> left & 1U) == 0) {
          at[left] = at[left + half];
          present |= 1U << left;
          continue;
        }
        Eight sum = Unpack(at[left]);
        AddTo(sum, Unpack(at[left + half]));
        at[left] = Pack(sum);
      }
    }
  }
  __device__ static Eight Unpack(const uint4& raw) {
    return Load8(reinterpret_cast<const __nv_bfloat16*>(&raw));
  }
};

// Fewer than 2^27 experts: no division is wider than 32 bits.
__device__ int32_t LeafOf(const ExpertLeaves& leaves, int32_t expert) {
  const auto count = static_cast<uint32_t>(leaves.count);
  return static_cast<int32_t>(((static_cast<uint32_t>(expert) + 1) * count - 1) /
                              static_cast<uint32_t>(leaves.experts));
}

// An expert of a row: its place in the tree, its output, how much that counts.
struct Term {
  int32_t leaf;  // from the first of the subtree
  int32_t pair;
  float weight;
};

// A block makes one subtree of one row over one tile of columns. Every thread goes through the same terms:
// the first warp picks those that are there, in their order. A subtree of 2^n leaves begins at a multiple of
// 2^n, so its joins are those of a tree of its own.
template <int kLeaves>
__global__ void __launch_bounds__(kRowThreads) SumExpertsKernel(const SumExperts work) {
  __shared__ Term terms[kMostChosen];
  __shared__ int32_t term_count;
  const int64_t row = blockIdx.x / work.subtree_count;
  const Subtree subtree = work.subtrees[blockIdx.x % work.subtree_count];
  if (threadIdx.x < kMostChosen) {
    Term term{-1, -1, 0.0F};
    if (threadIdx.x < work.top_k) {
      term = {LeafOf(work.leaves, work.ids[row * work.ids_stride + threadIdx.x]) - subtree.first,
              work.pairs[row * work.pairs_stride + threadIdx.x],
              work.weights[row * work.weights_stride + threadIdx.x]};
    }
    const bool there = term.pair >= 0 && term.leaf >= 0 && term.leaf < subtree.end - subtree.first;
    const uint32_t all = __ballot_sync(~0U, there);
    if (there) terms[__popc(all & ((1U << threadIdx.x) - 1))] = term;
    if (threadIdx.x == 0) term_count = __popc(all);
  }
  __syncthreads();
  const int64_t column = FirstColumn();
  if (column >= work.width || term_count == 0) return;
  TreeOfRow<kLeaves> tree;
  int32_t k = 0;
#pragma unroll
  for (int leaf = 0; leaf < kLeaves; ++leaf) {
    if (k == term_count || terms[k].leaf != leaf) continue;
    Eight sum = {};
    bool first = true;
    for (; k < term_count && terms[k].leaf == leaf; ++k) {
      const float weight = terms[k].weight;
      const Eight values =
          Load8(static_cast<const __nv_bfloat16*>(work.y) + terms[k].pair * work.y_stride + column);
      for (int i = 0; i < kEight; ++i) {
        sum.at[i] = first ? __fmul_rn(weight, values.at[i]) : __fmaf_rn(weight, values.at[i], sum.at[i]);
      }
      first = false;
    }
    tree.at[leaf] = Pack(sum);
    tree.present |= 1U << leaf;
  }
  tree.Join();
  *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(work.nodes) + blockIdx.x * work.nodes_stride +
                            column) = tree.at[0];
}

__global__ void __launch_bounds__(kRowThreads) JoinSubtreesKernel(const JoinSubtrees work) {
  const int64_t column = FirstColumn();
  if (column >= work.width) return;
  const int64_t row = blockIdx.x;
  uint32_t chosen = 0;  // bit l: the row chose an expert of leaf l
  for (int32_t k = 0; k < work.top_k; ++k) {
    chosen |= 1U << LeafOf(work.leaves, work.ids[row * work.ids_stride + k]);
  }
  TreeOfRow<kMostLeaves> tree;
#pragma unroll
  for (int leaf = 0; leaf < kMostLeaves; ++leaf) {
    const SubtreeRows& subtree = work.subtrees[leaf];
    const uint32_t below = (1U << subtree.leaves.end) - (1U << subtree.leaves.first);
    if ((chosen & below) == 0) continue;
    tree.at[leaf] = *reinterpret_cast<const uint4*>(
        static_cast<const __nv_bfloat16*>(work.nodes) +
        (subtree.first_row + row * subtree.row_step) * work.nodes_stride + column);
    tree.present |= 1U << leaf;
  }
  if (tree.present == 0) return;
  tree.Join();
  *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(work.out) + row * work.out_stride + column) =
      tree.at[0];
}

template <int kLeaves>
cudaError_t Launch(const SumExperts& work, cudaStream_t stream) {
  SumExpertsKernel<kLeaves>
      <<<RowsByTiles(work.rows * work.subtree_count, work.width), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

bool IsLegal(const ExpertLeaves& leaves, int32_t top_k) {
  return leaves.count > 0 && leaves.count <= kMostLeaves && leaves.experts >= leaves.count &&
         leaves.experts < 1 << 27 && top_k > 0 && top_k <= kMostChosen;
}

}  // namespace

cudaError_t Enqueue(const SumExperts& work, cudaStream_t stream) {
  if (!IsLegal(work.leaves, work.top_k) || work.subtree_count < 0 || work.subtree_count > kMostLeaves ||
      work.width % kEight != 0 || !Aligned(work.y, work.y_stride, 2) ||
      !Aligned(work.nodes, work.nodes_stride, 2)) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.width == 0 || work.subtree_count == 0) return cudaSuccess;
  int32_t most = 0;  // leaves of a subtree
  for (int32_t s = 0; s < work.subtree_count; ++s) {
    most = std::max(most, work.subtrees[s].end - work.subtrees[s].first);
  }
  if (most <= 2) return Launch<2>(work, stream);
  if (most <= 4) return Launch<4>(work, stream);
  if (most <= 8) return Launch<8>(work, stream);
  return Launch<kMostLeaves>(work, stream);
}

cudaError_t Enqueue(const JoinSubtrees& work, cudaStream_t stream) {
  if (!IsLegal(work.leaves, work.top_k) || work.width % kEight != 0 ||
      !Aligned(work.nodes, work.nodes_stride, 2) || !Aligned(work.out, work.out_stride, 2)) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.width == 0) return cudaSuccess;
  JoinSubtreesKernel<<<RowsByTiles(work.rows, work.width), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
