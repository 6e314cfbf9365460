#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// The queries and keys of the lightning indexer, heads of 128 channels: Ops::IndexQueries and
// Ops::IndexKeyRows. Both rotate the FIRST rope channels -> bf16, multiply with the Hadamard matrix
// (Sylvester order) / sqrt(128) -> bf16, and quantise a head -> e4m3 with one power-of-two scale.
namespace sluice::ops::cuda {

// Pointers are to device memory; data and strides of bf16 in bytes are multiples of 16.
struct IndexQueries {
  int64_t rows = 0;  // T
  int32_t heads = 0;
  int32_t rope = 0;                    // a multiple of 16, at most 128
  bool rope_interleaved = false;       // false: pairs (i, i + rope/2); true: pairs (2i, 2i + 1)
  const void* q = nullptr;             // [T, heads * 128] bf16
  int64_t q_stride = 0;                // elements from row to row
  const float* gate_logits = nullptr;  // [T, heads]
  int64_t gate_logits_stride = 0;
  const float* angles = nullptr;  // [T, rope], of RopeAngles
  void* queries = nullptr;        // [T, heads * 128] e4m3, contiguous
  float* gates = nullptr;         // [T, heads]: logits * (heads * 128)^-1/2 * scale of the head
};

// LayerNorm with eps 1e-6 -> bf16 comes first; rows are those of the wire: 128 codes | fp32 scale.
struct IndexKeyRows {
  int64_t rows = 0;  // T
  int32_t rope = 0;
  bool rope_interleaved = false;
  const void* k = nullptr;  // [T, 128] bf16
  int64_t k_stride = 0;
  const float* weight = nullptr;  // [128]
  const float* bias = nullptr;    // [128]
  const float* angles = nullptr;  // [T, rope]
  void* out = nullptr;            // [T, 132]; aligned to 4 bytes
  int64_t out_stride = 0;         // bytes from row to row, a multiple of 4
};

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const IndexQueries& work, cudaStream_t stream);
cudaError_t Enqueue(const IndexKeyRows& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
