#include <algorithm>

#include "ops/cuda/top_k.h"

// The selection reads a row once where it can: a sample of the row says what its threshold is about, and a
// guess that is safely below it leaves a few thousand candidates of the row in shared memory, among which the
// exact threshold is found. Where the guess was wrong (too few above it, or more than there is room for), the
// row itself is searched. What is chosen is marked in a mask by position, so that it comes out in ascending
// order whichever thread found it.
namespace sluice::ops::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kBlocksPerSm = 3;
constexpr int kWarps = kThreads / 32;
constexpr int kBucketBits = 11;
constexpr int kBuckets = 1 << kBucketBits;
constexpr int kMostCandidates = 6144;
constexpr int kSample = 4096;
constexpr int kSegment = 8;  // scores of a sector of memory: what a sample costs to read

// Larger floats have larger keys.
__device__ uint32_t KeyOf(float score) {
  const uint32_t bits = __float_as_uint(score);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ float ScoreOf(uint32_t key) {
  return __uint_as_float((key & 0x80000000U) != 0 ? key & 0x7fffffffU : ~key);
}

struct Shared {
  int32_t histogram[kBuckets];
  int32_t warp_sums[kWarps];
  uint32_t low, high;  // what the threshold lies between
  int32_t wanted;      // of the keys up to `high`
  int32_t equals;      // keys between them
  int32_t candidates;
  uint32_t keys[kMostCandidates];
  int32_t places[kMostCandidates];
  // Then two masks of a bit for each position: what is chosen, and what equals the threshold.
};

// Sum over the threads before this one. Every thread calls it.
__device__ int32_t SumBefore(int32_t value, Shared& shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  int32_t sum = value;
  for (int step = 1; step < 32; step *= 2) {
    const int32_t other = __shfl_up_sync(~0U, sum, step);
    if (lane >= step) sum += other;
  }
  __syncthreads();
  if (lane == 31) shared.warp_sums[warp] = sum;
  __syncthreads();
  const int32_t before = __reduce_add_sync(~0U, lane < warp ? shared.warp_sums[lane] : 0);
  return before + sum - value;
}

// One round of the search for the `wanted` largest of the keys between `low` and `high`: narrows these to the
// bucket in which they end, leaves in `wanted` how many of its keys are among them and in `equals` how many
// it has. key_of(i) is the key of i = 0..count-1; at least `wanted` of them lie between. Returns false when
// there is nothing to narrow any more.
template <typename KeyOfIndex>
__device__ bool Narrow(int32_t count, const KeyOfIndex& key_of, Shared& shared) {
  constexpr int kEach = kBuckets / kThreads;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const uint32_t low = shared.low;
  const uint32_t high = shared.high;
  const int32_t wanted = shared.wanted;
  const int shift = max(0, 32 - __clz(static_cast<int>(high - low)) - kBucketBits);
  for (int i = thread; i < kBuckets; i += kThreads) shared.histogram[i] = 0;
  __syncthreads();
  for (int32_t i = thread; i < count; i += kThreads) {
    const uint32_t key = key_of(i);
    if (key >= low && key <= high) atomicAdd(&shared.histogram[(key - low) >> shift], 1);
  }
  __syncthreads();
  // Neighbouring buckets for each thread, the largest first.
  const int largest = kBuckets - 1 - kEach * thread;
  int32_t mine = 0;
  for (int i = 0; i < kEach; ++i) mine += shared.histogram[largest - i];
  int32_t above = SumBefore(mine, shared);
  for (int i = 0; i < kEach; ++i) {
    const int32_t here = shared.histogram[largest - i];
    if (above < wanted && wanted <= above + here) {
      shared.low = low + (static_cast<uint32_t>(largest - i) << shift);
      shared.high = shared.low + min(high - shared.low, (1U << shift) - 1);
      shared.wanted = wanted - above;
      shared.equals = here;
    }
    above += here;
  }
  __syncthreads();
  return shift > 0 && shared.equals != shared.wanted;
}

// The smallest and the largest of the keys of all threads.
__device__ void FindRange(uint32_t smallest, uint32_t largest, Shared& shared) {
  if (threadIdx.x == 0) {
    shared.low = ~0U;
    shared.high = 0;
  }
  __syncthreads();
  smallest = __reduce_min_sync(~0U, smallest);
  largest = __reduce_max_sync(~0U, largest);
  if (threadIdx.x % 32 == 0) {
    atomicMin(&shared.low, smallest);
    atomicMax(&shared.high, largest);
  }
  __syncthreads();
}

// A score that somewhat more than `wanted` of the row's reach, and seldom fewer: from a sample of pieces that
// are spread evenly. Scores of neighbours may be alike, so the sample is taken for as large as it has pieces.
__device__ float Guess(const float* scores, int32_t visible, int32_t wanted, Shared& shared) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  uint32_t smallest = ~0U;
  uint32_t largest = 0;
  for (int32_t i = thread; i < kSample; i += kThreads) {
    const int64_t piece = static_cast<int64_t>(i / kSegment) * (visible / kSegment) / (kSample / kSegment);
    const uint32_t key = KeyOf(scores[piece * kSegment + i % kSegment]);
    shared.keys[i] = key;
    smallest = min(smallest, key);
    largest = max(largest, key);
  }
  FindRange(smallest, largest, shared);
  if (thread == 0) {
    const float mean = static_cast<float>(kSample) * static_cast<float>(wanted) / static_cast<float>(visible);
    shared.wanted = min(kSample, static_cast<int32_t>(mean + 3.0F * sqrtf(kSegment * mean)) + 1);
  }
  __syncthreads();
  // Twice: the buckets of the first round are wide, an eighth of the scores' range of values and more.
  const auto key_of = [&](int32_t i) { return shared.keys[i]; };
  if (Narrow(kSample, key_of, shared)) Narrow(kSample, key_of, shared);
  return ScoreOf(shared.low);
}

// Brings the row's scores from `least` on into shared memory, as many as there is room for; `candidates`
// counts them all.
__device__ void Filter(const TopK& work, const float* scores, int32_t visible, float least, Shared& shared) {
  constexpr int kLoads = 8;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x == 0) shared.candidates = 0;
  __syncthreads();
  for (int32_t begin = warp * 32 * kLoads; begin < visible; begin += kThreads * kLoads) {
    float score[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int32_t place = begin + i * 32 + lane;
      score[i] = place < visible ? scores[place] : -INFINITY;
    }
    uint32_t reach[kLoads];
    int32_t found = 0;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int32_t place = begin + i * 32 + lane;
      if (score[i] != score[i]) {
        work.not_a_number[0] = static_cast<int32_t>(blockIdx.x);
        work.not_a_number[1] = place;
      }
      reach[i] = __ballot_sync(~0U, score[i] >= least && place < visible);
      found += __popc(reach[i]);
    }
    int32_t at = 0;
    if (lane == 0 && found > 0) at = atomicAdd(&shared.candidates, found);
    at = __shfl_sync(~0U, at, 0);
    if (at + found > kMostCandidates) continue;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if ((reach[i] >> lane & 1U) != 0) {
        const int32_t slot = at + __popc(reach[i] & ((1U << lane) - 1));
        shared.keys[slot] = KeyOf(score[i]);
        shared.places[slot] = begin + i * 32 + lane;
      }
      at += __popc(reach[i]);
    }
  }
  __syncthreads();
}

// Marks what lies above the threshold's range, and what lies in it: as chosen, where all of that is, or else
// apart: it is one value then.
template <typename KeyOfIndex, typename PlaceOfIndex>
__device__ void Mark(int32_t count, const KeyOfIndex& key_of, const PlaceOfIndex& place_of, uint32_t* chosen,
                     uint32_t* equal, const Shared& shared) {
  const uint32_t low = shared.low;
  const uint32_t high = shared.high;
  uint32_t* const with_equals = shared.equals == shared.wanted ? chosen : equal;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += kThreads) {
    const uint32_t key = key_of(i);
    if (key < low) continue;
    const int32_t place = place_of(i);
    atomicOr((key <= high ? with_equals : chosen) + place / 32, 1U << (place % 32));
  }
}

// Writes the chosen positions in ascending order, of those that equal the threshold the lowest.
__device__ void Emit(uint32_t* chosen, const uint32_t* equal, int32_t words, int32_t* out, Shared& shared) {
  const int32_t each = (words + kThreads - 1) / kThreads;
  const int32_t begin = min(words, static_cast<int32_t>(threadIdx.x) * each);
  const int32_t end = min(words, begin + each);
  if (shared.equals != shared.wanted) {
    int32_t mine = 0;
    for (int32_t w = begin; w < end; ++w) mine += __popc(equal[w]);
    int32_t left = shared.wanted - SumBefore(mine, shared);
    for (int32_t w = begin; w < end; ++w) {
      for (uint32_t bits = equal[w]; bits != 0 && left > 0; bits &= bits - 1, --left)
        chosen[w] |= bits & -bits;
    }
  }
  int32_t mine = 0;
  for (int32_t w = begin; w < end; ++w) mine += __popc(chosen[w]);
  int32_t place = SumBefore(mine, shared);
  for (int32_t w = begin; w < end; ++w) {
    for (uint32_t bits = chosen[w]; bits != 0; bits &= bits - 1) out[place++] = w * 32 + __ffs(bits) - 1;
  }
}

__global__ void __launch_bounds__(kThreads, kBlocksPerSm) SelectKernel(const TopK work, int32_t mask_words) {
  extern __shared__ __align__(16) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  auto* const chosen = reinterpret_cast<uint32_t*>(memory + sizeof(Shared));
  uint32_t* const equal = chosen + mask_words;
  const int64_t row = blockIdx.x;
  const int32_t visible = work.positions[row] + 1;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  int32_t* out = work.selection + row * work.top_k;
  if (visible <= work.top_k) {
    for (int32_t i = thread; i < work.top_k; i += kThreads) out[i] = i < visible ? i : -1;
    return;
  }
  const float* scores = work.scores + row * work.scores_stride;
  const int32_t words = (visible + 31) / 32;
  for (int32_t w = thread; w < words; w += kThreads) chosen[w] = equal[w] = 0;

  const float least = visible <= kMostCandidates ? -INFINITY : Guess(scores, visible, work.top_k, shared);
  Filter(work, scores, visible, least, shared);
  const int32_t candidates = shared.candidates;
  const bool guessed = work.top_k <= candidates && candidates <= kMostCandidates;
  uint32_t smallest = ~0U;
  uint32_t largest = 0;
  for (int32_t i = thread; guessed && i < candidates; i += kThreads) {
    smallest = min(smallest, shared.keys[i]);
    largest = max(largest, shared.keys[i]);
  }
  FindRange(guessed ? smallest : 0U, guessed ? largest : ~0U, shared);
  if (thread == 0) shared.wanted = work.top_k;
  __syncthreads();
  const auto search = [&](int32_t count, const auto& key_of, const auto& place_of) {
    while (Narrow(count, key_of, shared)) {
    }
    Mark(count, key_of, place_of, chosen, equal, shared);
  };
  if (guessed) {
    search(
        candidates, [&](int32_t i) { return shared.keys[i]; }, [&](int32_t i) { return shared.places[i]; });
  } else {
    search(
        visible, [&](int32_t i) { return KeyOf(scores[i]); }, [](int32_t i) { return i; });
  }
  __syncthreads();
  Emit(chosen, equal, words, out, shared);
}

}  // namespace

cudaError_t Enqueue(const TopK& work, cudaStream_t stream) {
  if (work.scores_stride > kMostScores || work.top_k > kMostSelected) return cudaErrorInvalidValue;
  if (work.rows == 0) return cudaSuccess;
  const auto mask_words = static_cast<int32_t>((work.scores_stride + 31) / 32);
  const auto bytes_for = [](int64_t words) { return sizeof(Shared) + 2 * sizeof(uint32_t) * words; };
  // The most that any launch has, not what this one has: ranks that share a GPU launch at the same time, and
  // the attribute is the kernel's.
  const cudaError_t error = cudaFuncSetAttribute(SelectKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                 static_cast<int>(bytes_for(kMostScores / 32)));
  if (error != cudaSuccess) return error;
  SelectKernel<<<static_cast<unsigned>(work.rows), kThreads, bytes_for(mask_words), stream>>>(work,
                                                                                              mask_words);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
