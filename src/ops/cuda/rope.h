#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Rotary positions: Ops::RopeAngles, and the rotated part of Ops::AbsorbQuery.
namespace sluice::ops::cuda {

// angles[t] = cosines | sines, `pairs` of each, of the angle fp32(positions[t] * inv_freq[i]): the bits of
// RopeRow (ops/rope.h) on any host.
struct RopeAngles {
  int64_t rows = 0;                    // T
  const int32_t* positions = nullptr;  // [T]
  const float* inv_freq = nullptr;     // [pairs]
  int32_t pairs = 0;                   // n
  float* angles = nullptr;             // [T, 2 n]
};

// Per head: columns [nope, nope + rope) of q, pairs (2i, 2i + 1) rotated, -> bf16, into columns
// [latent, latent + rope) of q_latent. Data and strides in bytes are multiples of 16; nope, rope and latent
// of 8.
struct RotateQueries {
  int64_t rows = 0;  // T
  int32_t heads = 0;
  int32_t nope = 0;
  int32_t rope = 0;
  int32_t latent = 0;
  const void* q = nullptr;        // [T, heads * (nope + rope)] bf16
  int64_t q_stride = 0;           // elements from row to row
  const float* angles = nullptr;  // [T, rope], of RopeAngles
  void* q_latent = nullptr;       // [T, heads * (latent + rope)] bf16
  int64_t q_latent_stride = 0;
};

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const RopeAngles& work, cudaStream_t stream);
cudaError_t Enqueue(const RotateQueries& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
