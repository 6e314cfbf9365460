#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include "base/error.h"

namespace sluice {
namespace {

constexpr const char* kHttpLogger = "http";

spdlog::level::level_enum ParseLevel(const std::string& level) {
  const auto parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off && level != "off") {
    Fail(ErrorKind::kUsage,
         "--log-level {} is not a level: use trace, debug, info, warning, error, critical or off", level);
  }
  return parsed;
}

}  // namespace

void InitLogging(const std::string& level) {
  auto logger = spdlog::stderr_color_mt("sluice");
  logger->set_pattern("[%H:%M:%S.%e] %^%l%$ %v");
  auto http = std::make_shared<spdlog::logger>(kHttpLogger, logger->sinks().front());
  spdlog::register_logger(std::move(http));
  spdlog::set_default_logger(std::move(logger));
  SetLogLevels(level, "");
}

void SetLogLevels(const std::string& level, const std::string& http_level) {
  spdlog::default_logger_raw()->set_level(ParseLevel(level));
  HttpLog().set_level(ParseLevel(http_level.empty() ? level : http_level));
}

spdlog::logger& HttpLog() {
  // Tests of the server write without InitLogging.
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto known = spdlog::get(kHttpLogger);
    return known ? known : spdlog::default_logger();
  }();
  return *logger;
}

}  // namespace sluice
