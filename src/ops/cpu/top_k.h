#pragma once

#include <cstdint>
#include <vector>

namespace sluice::ops::cpu {

// The k largest scores of a stream of (score, position) with ascending positions; ties go to the lowest
// position. Holds at most 2 k + 64 candidates, and never looks at one that k earlier ones already beat.
class RunningTopK {
 public:
  void Reset(int64_t k);

  // Offers scores[i] for position first + i, i < count <= 64. -0 must already be +0.
  // Returns the index of the first NaN, or -1; a stream with a NaN is not offered further.
  int64_t Offer(const float* scores, int64_t count, int64_t first);

  // Candidates of another stream whose positions lie behind all of this one.
  void Append(const RunningTopK& later);
  // Keeps only the best min(k, offered) candidates, in ascending position.
  void Trim();
  // Trims and writes the positions, ascending; returns how many.
  int64_t Finish(int32_t* positions);

 private:
  // Score in the high half, in an order-preserving code; the complement of the position in the low half. So
  // the larger candidate wins, and no two are equal.
  std::vector<uint64_t> candidates_;
  std::vector<uint64_t> work_;
  int64_t k_ = 0;
  float threshold_ = 0.0F;  // only scores above it matter; NaN: all do
};

}  // namespace sluice::ops::cpu
