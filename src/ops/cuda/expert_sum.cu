#include "ops/cuda/expert_sum.h"
#include "ops/cuda/row_math.cuh"
#include "ops/expert_terms.h"

namespace sluice::ops::cuda {
namespace {

template <typename In, typename Out>
__global__ void __launch_bounds__(kRowThreads) SumKernel(const SumTerms work) {
  const int64_t row = blockIdx.x;
  const int64_t column = FirstColumn();
  if (column >= work.width) return;
  const int64_t end = work.offsets[row + 1];
  Eight sum = {};
  for (int64_t j = work.offsets[row]; j < end; ++j) {
    const ExpertTerm term = work.terms[j];
    const Eight values = Load8(static_cast<const In*>(work.y) + term.row * work.y_stride + column);
    const bool first = j == work.offsets[row];
    for (int i = 0; i < kEight; ++i) {
      sum.at[i] =
          first ? __fmul_rn(term.weight, values.at[i]) : __fmaf_rn(term.weight, values.at[i], sum.at[i]);
    }
  }
  Store8(sum, static_cast<Out*>(work.out) + row * work.out_stride + column);
}

// A block walks the joins of one range over one tile of columns; a thread reads what it has written itself.
__global__ void __launch_bounds__(kRowThreads) JoinKernel(const JoinNodes work) {
  const int64_t column = FirstColumn();
  if (column >= work.width) return;
  const int64_t range = blockIdx.x;
  const int64_t begin = work.ranges == nullptr ? 0 : work.ranges[range];
  const int64_t end = work.ranges == nullptr ? work.join_count : work.ranges[range + 1];
  auto* nodes = static_cast<__nv_bfloat16*>(work.nodes) + column;
  for (int64_t j = begin; j < end; ++j) {
    const NodeJoin join = work.joins[j];
    Eight sum = Load8(nodes + join.left * work.nodes_stride);
    AddTo(sum, Load8(nodes + join.right * work.nodes_stride));
    Store8(sum, nodes + join.into * work.nodes_stride);
  }
}

template <typename In, typename Out>
cudaError_t LaunchSum(const SumTerms& work, cudaStream_t stream) {
  SumKernel<In, Out><<<RowsByTiles(work.rows, work.width), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

bool IsSummable(DType type) { return type == DType::kBF16 || type == DType::kF32; }

}  // namespace

cudaError_t Enqueue(const SumTerms& work, cudaStream_t stream) {
  if (!IsSummable(work.y_type) || !IsSummable(work.out_type) || work.width % kEight != 0 ||
      !Aligned(work.y, work.y_stride, SizeOf(work.y_type)) ||
      !Aligned(work.out, work.out_stride, SizeOf(work.out_type))) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.width == 0) return cudaSuccess;
  if (work.y_type == DType::kBF16) {
    return work.out_type == DType::kBF16 ? LaunchSum<__nv_bfloat16, __nv_bfloat16>(work, stream)
                                         : LaunchSum<__nv_bfloat16, float>(work, stream);
  }
  return work.out_type == DType::kBF16 ? LaunchSum<float, __nv_bfloat16>(work, stream)
                                       : LaunchSum<float, float>(work, stream);
}

cudaError_t Enqueue(const JoinNodes& work, cudaStream_t stream) {
  if (work.width % kEight != 0 || !Aligned(work.nodes, work.nodes_stride, 2)) return cudaErrorInvalidValue;
  if (work.join_count == 0 || work.width == 0) return cudaSuccess;
  const int64_t ranges = work.ranges == nullptr ? 1 : work.range_count;
  JoinKernel<<<RowsByTiles(ranges, work.width), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
