#include "ops/cuda/block_reduce.cuh"
#include "ops/cuda/draw_tokens.h"
#include "ops/cuda/ranked_tokens.cuh"
#include "ops/cuda/scalar_exp.cuh"

namespace sluice::ops::cuda {
namespace {

constexpr int kPartThreads = 128;
constexpr int kOfThread = kBlockTokens / kPartThreads;
constexpr double kInfinite = INFINITY;
// Beside the chunks that have more than kLeastChunk: the first, the last, and an empty one behind it.
static_assert(kMostDrawVocabulary / (kLeastChunk + 1) + 3 <= kMostChunks &&
              kMostDrawVocabulary <= kMostParts * kBlockTokens);

__device__ const float* RowOf(const DrawTokens& work, const Draw& draw) {
  return draw.adjusted_row < 0 ? work.logits + draw.row * work.logits_stride
                               : work.adjusted + static_cast<int64_t>(draw.adjusted_row) * work.vocabulary;
}

// Whether the candidates are all tokens, whose mass is then summed in blocks.
__device__ bool TakesAll(const Draw& draw, int32_t vocabulary) {
  return draw.top_k <= 0 || draw.top_k >= vocabulary;
}

// One block of threads for each drawn row and block of 1,024 tokens.
__global__ void __launch_bounds__(kPartThreads) DrawPartsKernel(const DrawTokens work) {
  __shared__ uint64_t shared_keys[kPartThreads / 32];
  __shared__ double masses[kBlockTokens];
  const Draw draw = work.draws[blockIdx.x];
  const float* logits = RowOf(work, draw);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto first = static_cast<int32_t>(blockIdx.y) * kBlockTokens;
  float values[kOfThread];
  uint64_t largest = 0;
  uint64_t fault = 0;
#pragma unroll
  for (int i = 0; i < kOfThread; ++i) {
    const int32_t token = first + i * kPartThreads + thread;
    const bool inside = token < work.vocabulary;
    values[i] = inside ? logits[token] : -INFINITY;
    if (inside) largest = max(largest, KeyOf(values[i], token));
    if (!(values[i] < INFINITY)) fault = max(fault, KeyOf(0.0F, token));
  }
  fault = LargestOfBlock<kPartThreads>(fault, shared_keys);
  largest = LargestOfBlock<kPartThreads>(largest, shared_keys);
  const double top = ValueOf(largest);
  const bool summed =
      draw.temperature > 0.0F && TakesAll(draw, work.vocabulary) && fault == 0 && top > -kInfinite;
  double mass = 0.0;
  if (summed) {
    for (int i = 0; i < kOfThread; ++i) {
      masses[i * kPartThreads + thread] = Exp(__ddiv_rn(values[i] - top, draw.temperature));
    }
    __syncthreads();
    if (thread == 0) {
#pragma unroll 16
      for (int i = 0; i < kBlockTokens; ++i) mass = __dadd_rn(mass, masses[i]);
    }
  }
  if (thread == 0) {
    static_cast<TokenBlock*>(work.workspace)[blockIdx.x * gridDim.y + blockIdx.y] = {
        mass, largest, fault == 0 ? -1 : IdOf(fault)};
  }
}

// The parts of a row, merged: by all threads of the block.
struct Whole {
  double mass;  // relative to the largest
  uint64_t largest;
  uint64_t fault;  // the key of 0 and the token, or 0
};

__device__ Whole Merge(const TokenBlock* parts, int32_t count, double temperature, RankedRoom& room) {
  // What a sum so far and a part are multiplied by, as the largest grows; a part that has nothing finite is
  // left out.
  double* so_far = room.sums;
  double* of_part = room.sums + kMostParts;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  Whole whole{0.0, 0, 0};
  if (thread < count) room.chunk[thread] = whole.largest = parts[thread].largest;
  __syncthreads();
  if (thread < count) {
    uint64_t largest_before = 0;
#pragma unroll 8
    for (int32_t p = 0; p < thread; ++p) largest_before = max(largest_before, room.chunk[p]);
    const double before = thread == 0 ? -kInfinite : ValueOf(largest_before);
    if (parts[thread].fault >= 0) whole.fault = KeyOf(0.0F, parts[thread].fault);
    const double mine = ValueOf(parts[thread].largest);
    const double largest = fmax(before, mine);
    const bool finite = mine > -kInfinite;
    so_far[thread] = finite ? Exp(__ddiv_rn(before - largest, temperature)) : 1.0;
    of_part[thread] =
        finite ? __dmul_rn(parts[thread].mass, Exp(__ddiv_rn(mine - largest, temperature))) : 0.0;
  }
  whole.largest = LargestOfBlock<kRankThreads>(whole.largest, room.keys);
  whole.fault = LargestOfBlock<kRankThreads>(whole.fault, room.keys);
  if (thread == 0) {
    double sum = 0.0;
    for (int32_t p = 0; p < count; ++p) sum = __dadd_rn(__dmul_rn(sum, so_far[p]), of_part[p]);
    room.total = sum;
  }
  __syncthreads();
  whole.mass = room.total;
  return whole;
}

// The token; every thread of the block calls it and gets it.
__device__ int32_t Choose(const Draw& draw, const float* logits, int32_t vocabulary, const TokenBlock* parts,
                          const Whole& whole, RankedRoom& room) {
  RankedTokens ranked(logits, vocabulary, parts, ValueOf(whole.largest), draw.temperature, room);
  constexpr double kAny = 0x1p-1074;  // the least mass that counts
  const bool all = TakesAll(draw, vocabulary);
  const int32_t candidates = all ? vocabulary : draw.top_k;
  const double total = all ? whole.mass : ranked.Walk({.bound = kInfinite, .end = candidates}).sum;
  double kept = total;
  int32_t end = candidates;
  if (draw.top_p < 1.0F || draw.min_p > 0.0F) {
    const double wanted = draw.top_p < 1.0F ? __dmul_rn(draw.top_p, total) : kInfinite;
    const double least = draw.min_p > 0.0F ? draw.min_p : kAny;
    const RankedTokens::Stop stop =
        ranked.Walk({.bound = wanted, .or_equal = true, .end = candidates, .least = least});
    kept = stop.sum;
    end = stop.reached ? stop.rank + 1 : stop.rank;
  }
  return ranked.Walk({.bound = __dmul_rn(draw.uniform, kept), .end = end, .skip = true}).last;
}

// One block of threads for each drawn row.
__global__ void __launch_bounds__(kRankThreads, 1) DrawKernel(const DrawTokens work) {
  extern __shared__ __align__(16) uint8_t memory[];
  RankedRoom& room = *reinterpret_cast<RankedRoom*>(memory);
  const Draw draw = work.draws[blockIdx.x];
  if (work.faults[draw.row] >= 0) return;
  const float* logits = RowOf(work, draw);
  const int32_t parts = TokenBlocks(work.vocabulary);
  const auto* of_row = static_cast<const TokenBlock*>(work.workspace) + blockIdx.x * parts;
  const Whole whole = Merge(of_row, parts, draw.temperature > 0.0F ? draw.temperature : 1.0, room);
  if (whole.fault != 0 || !(ValueOf(whole.largest) > -INFINITY)) {
    if (threadIdx.x == 0) work.faults[draw.row] = whole.fault != 0 ? IdOf(whole.fault) : work.vocabulary;
    return;
  }
  const int32_t token = draw.temperature > 0.0F ? Choose(draw, logits, work.vocabulary, of_row, whole, room)
                                                : IdOf(whole.largest);
  if (threadIdx.x == 0) {
    work.tokens[draw.row] = token;
    const double logit = work.logits[draw.row * work.logits_stride + token];
    work.logprobs[draw.row] = static_cast<float>(logit - work.log_sum[draw.row]);
  }
}

}  // namespace

int64_t DrawBytes(int64_t count, int32_t vocabulary) {
  return count * TokenBlocks(vocabulary) * static_cast<int64_t>(sizeof(TokenBlock));
}

cudaError_t Enqueue(const DrawTokens& work, cudaStream_t stream) {
  if (work.vocabulary < 1 || work.vocabulary > kMostDrawVocabulary ||
      reinterpret_cast<uintptr_t>(work.workspace) % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  if (work.count == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(work.count), static_cast<unsigned>(TokenBlocks(work.vocabulary)));
  DrawPartsKernel<<<grid, kPartThreads, 0, stream>>>(work);
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  constexpr int kBytes = static_cast<int>(sizeof(RankedRoom));
  if (const cudaError_t error =
          cudaFuncSetAttribute(DrawKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess) {
    return error;
  }
  DrawKernel<<<static_cast<unsigned>(work.count), kRankThreads, kBytes, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
