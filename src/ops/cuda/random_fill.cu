#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "ops/cuda/random_fill.h"

// One block of threads for each 128 x 128 elements. A warp makes a row of them, four to each lane, so that
// stores are coalesced; an FP8 block is made once, kept in registers, and its scale taken between.
namespace sluice::ops::cuda {
namespace {

constexpr int kBlock = static_cast<int>(kRandomBlock);
constexpr int kWarps = 16;
constexpr int kThreads = 32 * kWarps;
constexpr int kRowsOfWarp = kBlock / kWarps;
constexpr int kColsOfLane = kBlock / 32;

// Four neighbours at once where they are whole and aligned.
template <typename Element>
struct alignas(sizeof(Element) * kColsOfLane) Quad {
  Element value[kColsOfLane];
};

__device__ float Rounded(float value, float) { return value; }
__device__ uint16_t Rounded(float value, uint16_t) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
__device__ uint8_t Rounded(float value, uint8_t) {
  return __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
}

// PowerOfTwoScale of tensor/dtype.h.
__device__ float ScaleOf(float amax) {
  const uint32_t bits = __float_as_uint(__fdiv_rn(fmaxf(amax, 1e-4F), 448.0F));
  return __uint_as_float(((bits >> 23) + ((bits & 0x7fffffU) != 0 ? 1U : 0U)) << 23);
}

// The largest over the block's threads; every one calls it and gets it.
__device__ float Largest(float value) {
  __shared__ float of_warp[kWarps];
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(~0U, value, step));
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  float largest = of_warp[0];
  for (int w = 1; w < kWarps; ++w) largest = fmaxf(largest, of_warp[w]);
  return largest;
}

template <typename Element>
__global__ void __launch_bounds__(kThreads) FillKernel(const RandomFill fill) {
  const RandomMatrix& m = fill.matrix;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row_begin = static_cast<int64_t>(blockIdx.y) * kBlock;
  const int64_t col = static_cast<int64_t>(blockIdx.x) * kBlock + kColsOfLane * lane;
  float values[kRowsOfWarp][kColsOfLane];
  float largest = 0.0F;
  for (int r = 0; r < kRowsOfWarp; ++r) {
    const int64_t row = row_begin + r * kWarps + warp;
    for (int c = 0; c < kColsOfLane; ++c) {
      // What lies beyond the part is made too: a scale is that of the whole matrix's block.
      const bool exists = m.row_begin + row < m.all_rows && m.col_begin + col + c < m.all_cols;
      values[r][c] = exists ? m.At(row, col + c) : 0.0F;
      largest = fmaxf(largest, fabsf(values[r][c]));
    }
  }
  float inverse = 1.0F;
  if constexpr (sizeof(Element) == 1) {
    const float scale = ScaleOf(Largest(largest));
    inverse = __fdiv_rn(1.0F, scale);  // exact, and so is the product
    if (threadIdx.x == 0 && fill.scales != nullptr) {
      fill.scales[blockIdx.y * fill.scales_stride + blockIdx.x] = scale;
    }
  }
  const bool whole = col + kColsOfLane <= m.cols && fill.stride % kColsOfLane == 0 &&
                     reinterpret_cast<uintptr_t>(fill.data) % sizeof(Quad<Element>) == 0;
  for (int r = 0; r < kRowsOfWarp; ++r) {
    const int64_t row = row_begin + r * kWarps + warp;
    if (row >= m.rows) break;
    Element* out = static_cast<Element*>(fill.data) + row * fill.stride + col;
    Quad<Element> quad;
    for (int c = 0; c < kColsOfLane; ++c)
      quad.value[c] = Rounded(__fmul_rn(values[r][c], inverse), Element{});
    if (whole) {
      *reinterpret_cast<Quad<Element>*>(out) = quad;
    } else {
      for (int c = 0; c < kColsOfLane; ++c) {
        if (col + c < m.cols) out[c] = quad.value[c];
      }
    }
  }
}

}  // namespace

cudaError_t Enqueue(const RandomFill& fill, cudaStream_t stream) {
  const RandomMatrix& m = fill.matrix;
  if (m.rows == 0 || m.cols == 0) return cudaSuccess;
  const int64_t down = (m.rows + kBlock - 1) / kBlock;
  const int64_t across = (m.cols + kBlock - 1) / kBlock;
  if (down > 65535) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(down));
  switch (m.dtype) {
    case DType::kF32:
      FillKernel<float><<<grid, kThreads, 0, stream>>>(fill);
      break;
    case DType::kBF16:
      FillKernel<uint16_t><<<grid, kThreads, 0, stream>>>(fill);
      break;
    case DType::kF8E4M3:
      if (m.row_begin % kBlock != 0 || m.col_begin % kBlock != 0) return cudaErrorInvalidValue;
      FillKernel<uint8_t><<<grid, kThreads, 0, stream>>>(fill);
      break;
    default:
      return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
