#pragma once

#include <cstdint>

// Times of the monotonic clock in tests that make up records, in nanoseconds.
namespace sluice::engine {

inline constexpr int64_t kSecond = 1'000'000'000;
inline constexpr int64_t kNow = 1000 * kSecond;

}  // namespace sluice::engine
