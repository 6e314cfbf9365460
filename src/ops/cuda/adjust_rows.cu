#include "ops/cuda/draw_tokens.h"

namespace sluice::ops::cuda {
namespace {

constexpr int kThreads = 1024;

// One block of threads for each row. A list names a token once, so its entries need no order among each
// other; lists follow one another.
__global__ void __launch_bounds__(kThreads) AdjustKernel(const AdjustRows work) {
  const Adjust adjust = work.adjusts[blockIdx.x];
  const float* logits = work.logits + adjust.row * work.logits_stride;
  float* row = work.adjusted + static_cast<int64_t>(adjust.adjusted_row) * work.vocabulary;
  const auto thread = static_cast<int32_t>(threadIdx.x);
#pragma unroll 8
  for (int32_t token = thread; token < work.vocabulary; token += kThreads) row[token] = logits[token];
  __syncthreads();
  for (int32_t i = adjust.repeated_begin + thread; i < adjust.repeated_end; i += kThreads) {
    float& logit = row[work.repeated[i]];
    logit = logit > 0.0F ? __fdiv_rn(logit, adjust.repetition_penalty)
                         : __fmul_rn(logit, adjust.repetition_penalty);
  }
  __syncthreads();
  for (int32_t i = adjust.biases_begin + thread; i < adjust.biases_end; i += kThreads) {
    const AdjustedToken of = work.biases[i];
    row[of.token] = __fadd_rn(row[of.token], of.bias);
  }
  if (adjust.allowed_begin < 0) return;
  __syncthreads();
  const uint32_t* allowed = work.allowed + adjust.allowed_begin;
  for (int32_t token = thread; token < work.vocabulary; token += kThreads) {
    if ((allowed[token / 32] >> (token % 32) & 1U) == 0) row[token] = -INFINITY;
  }
}

}  // namespace

cudaError_t Enqueue(const AdjustRows& work, cudaStream_t stream) {
  if (work.count == 0) return cudaSuccess;
  AdjustKernel<<<static_cast<unsigned>(work.count), kThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
