#pragma once

#include <spdlog/spdlog.h>

namespace sluice {

// Text lines to standard error, so that standard output stays the program's answer. `level` is one of
// spdlog's names (trace, debug, info, warning, error, critical, off). Throws Error(kUsage) for another.
void InitLogging(const std::string& level);

// After InitLogging. `http_level` is that of HttpLog; empty: the same. Throws Error(kUsage) as InitLogging.
void SetLogLevels(const std::string& level, const std::string& http_level);

// Where the line about each HTTP request goes; it has a level of its own.
spdlog::logger& HttpLog();

}  // namespace sluice
