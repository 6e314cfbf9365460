#pragma once

namespace sluice {

inline constexpr const char* kVersion = "0.1.0";
// What ranks of one job must have in common.
inline constexpr const char* kBuild = "sluice 0.1.0";

}  // namespace sluice
