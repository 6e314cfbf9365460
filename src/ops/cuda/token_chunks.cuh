#pragma once

#include <cstdint>

#include "ops/cuda/ordered_key.cuh"

// The tokens of a row by logit descending, then id ascending, in chunks of up to 4,096: what lies above a
// threshold is gathered and sorted in shared memory. The first threshold is the middle one of the largest of
// each block of 1,024 tokens; some hundred tokens are above it, and few rows go beyond them. Further ones are
// found by histograms of the keys' bits.
namespace sluice::ops::cuda {

inline constexpr int kRankThreads = 1024;
inline constexpr int kChunk = 4096;  // most tokens of a chunk
// All but the first and the last chunk of a row have more than this.
inline constexpr int kLeastChunk = kChunk / 8;
inline constexpr int kMostChunks = 1056;
inline constexpr int kMostParts = 512;
inline constexpr int kBins = 4096;

// Of a block of kBlockTokens tokens.
inline constexpr int kBlockTokens = 1024;
struct TokenBlock {
  double mass = 0.0;     // sum of exp((logit - largest) / temperature), token after token
  uint64_t largest = 0;  // key
  int32_t fault = -1;    // the lowest token that is NaN or +infinity
};
__host__ __device__ inline int32_t TokenBlocks(int32_t vocabulary) {
  return (vocabulary + kBlockTokens - 1) / kBlockTokens;
}

// Of a RankedTokens and the chunks below it.
struct RankedRoom {
  uint64_t chunk[kChunk];  // keys, descending
  double sums[kChunk];     // masses, replaced by running sums as these are wanted
  int32_t bins[kBins];
  uint64_t below[kMostChunks];  // of each chunk: what its keys are less than
  double before[kMostChunks];   // the sum of the masses of those before
  int32_t ranks[kMostChunks];   // how many those are
  uint64_t keys[kRankThreads / 32];
  int32_t counts[kRankThreads / 32];
  double total;
  int32_t gathered;
  int32_t found;
};

// One row, by the kRankThreads threads of a block, which all call every function with the same arguments.
class TokenChunks {
 protected:
  // `blocks`: up to kMostParts, of all tokens.
  __device__ TokenChunks(const float* logits, int32_t vocabulary, const TokenBlock* blocks, RankedRoom& room)
      : logits_(logits), vocabulary_(vocabulary), blocks_(blocks), room_(room) {}

  // The first chunk, from the blocks that have any of it; false where it would be too large.
  __device__ bool GatherFirst() {
    const auto thread = static_cast<int32_t>(threadIdx.x);
    const int32_t blocks = TokenBlocks(vocabulary_);
    for (int32_t i = thread; i < blocks; i += kRankThreads) room_.chunk[i] = blocks_[i].largest;
    if (thread == 0) room_.gathered = 0;
    count_ = blocks;
    Sort();
    whole_ = vocabulary_ <= kChunk;
    const uint64_t threshold = whole_ ? 0 : room_.chunk[blocks / 2];
    __syncthreads();
    for (int32_t block = thread / 32; block < blocks; block += kRankThreads / 32) {
      if (blocks_[block].largest < threshold) continue;
      constexpr int kAtOnce = 8;
      for (int32_t begin = 0; begin < kBlockTokens; begin += 32 * kAtOnce) {
        float values[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const int32_t token = block * kBlockTokens + begin + 32 * i + thread % 32;
          values[i] = token < vocabulary_ ? logits_[token] : -INFINITY;
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          const int32_t token = block * kBlockTokens + begin + 32 * i + thread % 32;
          const uint64_t key = KeyOf(values[i], token);
          Gather(values[i] > -INFINITY && key >= threshold, key);
        }
      }
    }
    __syncthreads();
    count_ = room_.gathered;
    __syncthreads();
    return count_ <= kChunk;
  }

  // The chunk of keys less than `below`.
  __device__ void GatherNext(uint64_t below) {
    const uint64_t threshold = Threshold(below, whole_);
    const auto thread = static_cast<int32_t>(threadIdx.x);
    if (thread == 0) room_.gathered = 0;
    __syncthreads();
    ForKeys(below, [&](uint64_t key) { Gather(key != 0 && key >= threshold, key); });
    __syncthreads();
    count_ = room_.gathered;
    __syncthreads();
  }

  // Bitonic, descending.
  __device__ void Sort() {
    int32_t size = 2;
    while (size < count_) size *= 2;
    const auto thread = static_cast<int32_t>(threadIdx.x);
    for (int32_t i = count_ + thread; i < size; i += kRankThreads) room_.chunk[i] = 0;
    for (int32_t run = 2; run <= size; run *= 2) {
      for (int32_t apart = run / 2; apart > 0; apart /= 2) {
        __syncthreads();
        for (int32_t pair = thread; pair < size / 2; pair += kRankThreads) {
          const int32_t i = 2 * pair - (pair & (apart - 1));
          const uint64_t a = room_.chunk[i];
          const uint64_t b = room_.chunk[i + apart];
          if (((i & run) == 0) == (a < b)) {
            room_.chunk[i] = b;
            room_.chunk[i + apart] = a;
          }
        }
      }
    }
    __syncthreads();
  }

  // Running sums of the chunk up to `end`, in the order of ranks.
  __device__ void SumTo(int32_t end) {
    if (end <= summed_) return;
    if (threadIdx.x == 0) {
      double sum = summed_ == 0 ? room_.before[loaded_] : room_.sums[summed_ - 1];
      // Masses are loaded ahead of the sums that take their places.
      constexpr int kAhead = 16;
      int32_t i = summed_;
      for (; i + kAhead <= end; i += kAhead) {
        double masses[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; ++k) masses[k] = room_.sums[i + k];
#pragma unroll
        for (int k = 0; k < kAhead; ++k) {
          sum = __dadd_rn(sum, masses[k]);
          room_.sums[i + k] = sum;
        }
      }
      for (; i < end; ++i) {
        sum = __dadd_rn(sum, room_.sums[i]);
        room_.sums[i] = sum;
      }
    }
    summed_ = end;
    __syncthreads();
  }

 private:
  // Every key of the row that is above -infinity and below `below`, by all lanes of a warp at once, or 0.
  template <typename Take>
  __device__ void ForKeys(uint64_t below, const Take& take) {
    constexpr int kAtOnce = 8;
    for (int32_t begin = 0; begin < vocabulary_; begin += kAtOnce * kRankThreads) {
      float values[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int32_t token = begin + i * kRankThreads + static_cast<int32_t>(threadIdx.x);
        values[i] = token < vocabulary_ ? logits_[token] : -INFINITY;
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int32_t token = begin + i * kRankThreads + static_cast<int32_t>(threadIdx.x);
        const uint64_t key = values[i] > -INFINITY ? KeyOf(values[i], token) : 0;
        take(key < below ? key : 0);
      }
    }
  }

  // How many keys [.., below) are at or above the returned one: more than kLeastChunk and at most kChunk, or
  // all there are (then `whole`).
  __device__ uint64_t Threshold(uint64_t below, bool& whole) {
    uint64_t prefix = 0;  // of the keys that are still told apart
    int32_t taken = 0;    // keys above those
    int high = 64;        // bits from here on are the prefix
    const auto thread = static_cast<int32_t>(threadIdx.x);
    const int lane = thread % 32;
    while (true) {
      const int low = max(0, high - 12);
      const int32_t bins = 1 << (high - low);
      for (int i = thread; i < kBins; i += kRankThreads) room_.bins[i] = 0;
      __syncthreads();
      ForKeys(below, [&](uint64_t key) {
        const bool fits = key != 0 && (high == 64 || key >> high == prefix);
        const uint32_t all = __ballot_sync(~0U, fits);
        if (all == 0) return;
        const auto bin = static_cast<int32_t>(key >> low & static_cast<uint64_t>(bins - 1));
        // Rows with few values put whole warps into one bin.
        const int32_t of_first = __shfl_sync(~0U, bin, __ffs(static_cast<int>(all)) - 1);
        const uint32_t same = __ballot_sync(~0U, fits && bin == of_first);
        if (lane == __ffs(static_cast<int>(all)) - 1) atomicAdd(&room_.bins[bin], __popc(same));
        if (fits && bin != of_first) atomicAdd(&room_.bins[bin], 1);
      });
      __syncthreads();
      // Bins from the top down, four a thread; how many of them fit together.
      constexpr int kOfThread = kBins / kRankThreads;
      int32_t counts[kOfThread];
      int32_t sum = 0;
      for (int i = 0; i < kOfThread; ++i) {
        const int32_t bin = bins - 1 - (kOfThread * thread + i);
        counts[i] = bin >= 0 ? room_.bins[bin] : 0;
        sum += counts[i];
      }
      int32_t up_to = sum;  // bins of this thread and those before it
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int32_t other = __shfl_up_sync(~0U, up_to, step);
        if (lane >= step) up_to += other;
      }
      if (lane == 31) room_.counts[thread / 32] = up_to;
      if (thread == 0) room_.found = 0, room_.gathered = 0;
      __syncthreads();
      int32_t running = taken + up_to - sum;
      for (int warp = 0; warp < thread / 32; ++warp) running += room_.counts[warp];
      int32_t fitting = 0;
      int32_t keys = 0;
      for (int i = 0; i < kOfThread && running + counts[i] <= kChunk; ++i) {
        running += counts[i];
        keys = running;
        ++fitting;
      }
      if (fitting > 0) {
        atomicAdd(&room_.found, fitting);
        atomicMax(&room_.gathered, keys);
      }
      __syncthreads();
      const int32_t bins_taken = min(room_.found, bins);
      const int32_t keys_taken = max(room_.gathered, taken);
      __syncthreads();
      if (bins_taken == bins && high == 64) {
        whole = true;
        return 0;
      }
      const uint64_t lowest = static_cast<uint64_t>(bins - bins_taken);
      const uint64_t above = high == 64 ? 0 : prefix << (high - low);
      if (keys_taken > kLeastChunk || low == 0) {
        whole = false;
        return (above | lowest) << low;
      }
      prefix = above | (lowest - 1);
      taken = keys_taken;
      high = low;
    }
  }

  // The lanes of a warp whose key fits put it into the chunk, where there is room.
  __device__ void Gather(bool fits, uint64_t key) {
    const uint32_t all = __ballot_sync(~0U, fits);
    if (all == 0) return;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    int32_t at = 0;
    if (lane == 0) at = atomicAdd(&room_.gathered, __popc(all));
    at = __shfl_sync(~0U, at, 0) + __popc(all & ((1U << lane) - 1));
    if (fits && at < kChunk) room_.chunk[at] = key;
  }

  const float* const logits_;
  const int32_t vocabulary_;
  const TokenBlock* const blocks_;

 protected:
  // The order of these decides the order of the kernel's instructions, and their number.
  RankedRoom& room_;
  int seen_ = 0;  // the last chunk of which it is known where it begins
  int loaded_ = -1;
  int32_t count_ = 0;   // of the loaded chunk
  int32_t summed_ = 0;  // of these, in running sums
  bool whole_ = false;  // no key follows the loaded chunk
};

}  // namespace sluice::ops::cuda
