#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace sluice {
namespace {

constexpr const char* kHttpLogger = "http";
constexpr const char* kTextPattern = "[%H:%M:%S.%e] %^%l%$ %v";

// The message as a JSON text: line ends and whatever else a client may have put into it are escaped.
class EscapedMessage : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& line) override {
    const nlohmann::json text(std::string(message.payload.data(), message.payload.size()));
    const std::string quoted = text.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    line.append(quoted.data(), quoted.data() + quoted.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<EscapedMessage>(); }
};

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
  logger->set_pattern(kTextPattern);
  auto http = std::make_shared<spdlog::logger>(kHttpLogger, logger->sinks().front());
  spdlog::register_logger(std::move(http));
  spdlog::set_default_logger(std::move(logger));
  SetLogLevels(level, "");
}

void SetLogLevels(const std::string& level, const std::string& http_level) {
  spdlog::default_logger_raw()->set_level(ParseLevel(level));
  HttpLog().set_level(ParseLevel(http_level.empty() ? level : http_level));
}

std::string SetLogFormat(const std::string& format) {
  if (format != "auto" && format != "text" && format != "json") {
    Fail(ErrorKind::kUsage, "--log-format {} is not known: use auto, text or json", format);
  }
  const bool json = format == "json" || (format == "auto" && isatty(STDERR_FILENO) == 0);
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  if (json) {
    formatter->add_flag<EscapedMessage>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","logger":"%n","pid":%P,"message":%*})");
  } else {
    formatter = std::make_unique<spdlog::pattern_formatter>(kTextPattern);
  }
  // One sink for all loggers.
  spdlog::default_logger_raw()->sinks().front()->set_formatter(std::move(formatter));
  return json ? "json" : "text";
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
