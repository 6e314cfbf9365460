#include "ops/cpu/top_k.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

namespace sluice::ops::cpu {
namespace {

constexpr int64_t kBlock = 64;
constexpr uint32_t kSign = 0x80000000U;

uint64_t Candidate(float score, int64_t position) {
  const auto bits = std::bit_cast<uint32_t>(score);
  const uint32_t ordered = (bits & kSign) != 0 ? ~bits : bits | kSign;
  return (static_cast<uint64_t>(ordered) << 32) | static_cast<uint32_t>(~static_cast<uint32_t>(position));
}
float ScoreOf(uint64_t candidate) {
  const auto ordered = static_cast<uint32_t>(candidate >> 32);
  return std::bit_cast<float>((ordered & kSign) != 0 ? ordered & ~kSign : ~ordered);
}
int32_t PositionOf(uint64_t candidate) { return static_cast<int32_t>(~static_cast<uint32_t>(candidate)); }

}  // namespace

void RunningTopK::Reset(int64_t k) {
  k_ = k;
  threshold_ = std::numeric_limits<float>::quiet_NaN();
  candidates_.clear();
  candidates_.reserve(static_cast<size_t>(2 * k + kBlock));
}

int64_t RunningTopK::Offer(const float* scores, int64_t count, int64_t first) {
  for (int64_t i = 0; i < count; ++i) {
    if (scores[i] <= threshold_) continue;
    if (scores[i] != scores[i]) return i;
    candidates_.push_back(Candidate(scores[i], first + i));
  }
  if (static_cast<int64_t>(candidates_.size()) >= 2 * k_) Trim();
  return -1;
}

void RunningTopK::Append(const RunningTopK& later) {
  candidates_.insert(candidates_.end(), later.candidates_.begin(), later.candidates_.end());
}

void RunningTopK::Trim() {
  if (static_cast<int64_t>(candidates_.size()) <= k_) return;
  work_ = candidates_;
  std::nth_element(work_.begin(), work_.begin() + (k_ - 1), work_.end(), std::greater<>());
  const uint64_t last = work_[k_ - 1];
  std::erase_if(candidates_, [last](uint64_t candidate) { return candidate < last; });
  threshold_ = ScoreOf(last);
}

int64_t RunningTopK::Finish(int32_t* positions) {
  Trim();
  std::transform(candidates_.begin(), candidates_.end(), positions, PositionOf);
  return static_cast<int64_t>(candidates_.size());
}

}  // namespace sluice::ops::cpu
