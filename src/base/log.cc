#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include "base/error.h"

namespace sluice {

void InitLogging(const std::string& level) {
  const auto parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off && level != "off") {
    Fail(ErrorKind::kUsage,
         "--log-level {} is not a level: use trace, debug, info, warning, error, critical or off", level);
  }
  auto logger = spdlog::stderr_color_mt("sluice");
  logger->set_pattern("[%H:%M:%S.%e] %^%l%$ %v");
  logger->set_level(parsed);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace sluice
