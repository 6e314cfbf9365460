#pragma once

#include <cstdint>

#include "ops/cuda/scalar_exp.cuh"
#include "ops/cuda/token_chunks.cuh"

// The tokens of a row by logit descending, then id ascending, with the running sum of their masses, as far
// down as somebody walks.
namespace sluice::ops::cuda {

// One row, by the kRankThreads threads of a block, which all call every function with the same arguments and
// get the same results.
class RankedTokens : private TokenChunks {
 public:
  // temperature > 0; `largest`: of the logits, finite; `blocks`: up to kMostParts, of all tokens.
  __device__ RankedTokens(const float* logits, int32_t vocabulary, const TokenBlock* blocks, double largest,
                          double temperature, RankedRoom& room)
      : TokenChunks(logits, vocabulary, blocks, room), largest_(largest), temperature_(temperature) {
    if (threadIdx.x == 0) {
      room_.below[0] = ~uint64_t{0};
      room_.before[0] = 0.0;
      room_.ranks[0] = 0;
    }
    __syncthreads();
  }

  struct Walked {
    double bound;              // of the running sum
    bool or_equal = false;     // whether a sum that equals the bound has reached it
    int32_t end;               // ranks from here on are not looked at
    double least = 0x1p-1074;  // nor is the first one of less mass than this, nor what follows it
    bool skip = false;         // chunks that a walk to here has seen, without a mass below `least`, and
                               // whose sums stay within the bound
  };
  struct Stop {
    bool reached;  // the bound, at `rank`; otherwise `rank` is the first that was not looked at
    int32_t rank;
    double sum;    // running sum of the ranks looked at
    int32_t last;  // the last token looked at
  };
  // From rank 0 on, which is always looked at: its mass is 1. end > 0, least <= 1.
  __device__ Stop Walk(const Walked& walked) {
    Stop stop{false, 0, 0.0, 0};
    int chunk = 0;
    while (walked.skip && chunk < seen_ && room_.ranks[chunk + 1] < walked.end &&
           room_.before[chunk + 1] < walked.bound) {
      ++chunk;
    }
    for (;; ++chunk) {
      Load(chunk);
      const int32_t end = min(count_, walked.end - room_.ranks[chunk]);
      // Masses fall, so those that count come first.
      for (int32_t begin = 0; begin < end; begin += kStretch) {
        const int32_t stretch_end = min(end, begin + kStretch);
        SumTo(stretch_end);
        const int32_t found = First(begin, stretch_end, [&](int32_t i) {
          const double sum = room_.sums[i];
          return MassOf(i) < walked.least || sum > walked.bound || (walked.or_equal && sum == walked.bound);
        });
        if (found < stretch_end) {
          if (!(MassOf(found) < walked.least)) {
            return {true, room_.ranks[chunk] + found, room_.sums[found], IdOf(room_.chunk[found])};
          }
          if (found > 0) {
            stop.sum = room_.sums[found - 1];
            stop.last = IdOf(room_.chunk[found - 1]);
          }
          stop.rank = room_.ranks[chunk] + found;
          return stop;
        }
      }
      if (end > 0) {
        stop.rank = room_.ranks[chunk] + end;
        stop.sum = room_.sums[end - 1];
        stop.last = IdOf(room_.chunk[end - 1]);
      }
      if (end < count_ || stop.rank == walked.end || whole_) return stop;
      if (threadIdx.x == 0) {
        room_.below[chunk + 1] = room_.chunk[count_ - 1];
        room_.before[chunk + 1] = stop.sum;
        room_.ranks[chunk + 1] = stop.rank;
      }
      seen_ = max(seen_, chunk + 1);
      __syncthreads();
    }
  }

 private:
  static constexpr int32_t kStretch = 512;  // ranks whose sums are made at once

  __device__ double MassOf(int32_t i) const {
    return Exp(__ddiv_rn(static_cast<double>(ValueOf(room_.chunk[i])) - largest_, temperature_));
  }

  // The first i of [begin, end) that fits, or `end`; end - begin <= kRankThreads.
  template <typename Fits>
  __device__ int32_t First(int32_t begin, int32_t end, const Fits& fits) {
    if (threadIdx.x == 0) room_.found = end;
    __syncthreads();
    const int32_t i = begin + static_cast<int32_t>(threadIdx.x);
    if (i < end && fits(i)) atomicMin(&room_.found, i);
    __syncthreads();
    const int32_t found = room_.found;
    __syncthreads();
    return found;
  }

  // The chunk of this number, of which the one before was walked through.
  __device__ void Load(int chunk) {
    if (chunk == loaded_) return;
    whole_ = false;
    if (chunk > 0 || !GatherFirst()) GatherNext(room_.below[chunk]);
    Sort();
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count_; i += kRankThreads) {
      room_.sums[i] = MassOf(i);
    }
    loaded_ = chunk;
    summed_ = 0;
    __syncthreads();
  }

  const double largest_;
  const double temperature_;
};

}  // namespace sluice::ops::cuda
