#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::cli {

// The number that `text` says: digits, perhaps with a decimal point, and k, M or G for 1,000, 1,000,000 and
// 1,000,000,000, or Ki, Mi, Gi for 1,024 and its powers: "128k" is 128,000, "128Ki" 131,072, "25.6k" 25,600.
// Throws Error(kUsage) for another text and for what is not a whole number.
int64_t ParseCount(std::string_view text);

// For options that count tokens or bytes: option->transform(HumanCount()) takes what ParseCount takes.
CLI::Validator HumanCount();

inline constexpr int64_t kGiB = int64_t{1} << 30;
inline double InGiB(int64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(kGiB); }

}  // namespace sluice::cli
