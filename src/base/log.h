#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace sluice {

// Lines to standard error, as text until SetLogFormat says otherwise, so that standard output stays the
// program's answer. `level` is one of spdlog's names (trace, debug, info, warning, error, critical, off).
// Throws Error(kUsage) for another.
void InitLogging(const std::string& level);

// After InitLogging. `http_level` is that of HttpLog; empty: the same. Throws Error(kUsage) as InitLogging.
void SetLogLevels(const std::string& level, const std::string& http_level);

// "text": lines for people; "json": one JSON object a line, {"time", "level", "logger", "pid", "message"};
// "auto": text when standard error is a terminal. Returns which of the first two it is from now on. Throws
// Error(kUsage) for another format.
std::string SetLogFormat(const std::string& format);

// Where the line about each HTTP request goes; it has a level of its own.
spdlog::logger& HttpLog();

}  // namespace sluice
