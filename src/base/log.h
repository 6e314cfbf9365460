#pragma once

#include <spdlog/spdlog.h>

namespace sluice {

// Text lines to standard error, so that standard output stays the program's answer. `level` is one of
// spdlog's names (trace, debug, info, warning, error, critical, off). Throws Error(kUsage) for another.
void InitLogging(const std::string& level);

}  // namespace sluice
