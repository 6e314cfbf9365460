#pragma once

#include <fmt/format.h>

#include <exception>

#include "base/error.h"

namespace sluice::bench {

// The end of a benchmark's main: 0; 2 and a sentence for what its user can mend, 1 for anything else.
template <typename Run>
int Main(const char* program, const Run& run) {
  try {
    run();
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return error.kind() == ErrorKind::kUsage ? 2 : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return 1;
  }
}

}  // namespace sluice::bench
