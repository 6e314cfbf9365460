#pragma once

#include <string>

namespace sluice::engine {

// "sluice 0.1.0 (source 1a2b3c4d5e6f)": the version and a digest of the sources this was built from, which
// the ranks of a job have in common. Written by cmake/build_id.cmake.
std::string BuildId();

}  // namespace sluice::engine
