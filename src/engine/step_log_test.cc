#include "engine/step_log.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <sstream>

#include "engine/test_times.h"

namespace sluice::engine {
namespace {

constexpr std::optional<double> kBubble = 0.125;
constexpr EngineLoad kLoad{3, 2, 640, 1000};

// What is written to the log while it lives.
class CapturedLog {
 public:
  CapturedLog() : before_(spdlog::default_logger()) {
    auto logger =
        std::make_shared<spdlog::logger>("captured", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_));
    logger->set_pattern("%v");
    spdlog::set_default_logger(logger);
  }
  ~CapturedLog() { spdlog::set_default_logger(before_); }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> before_;
};

TEST(StepLog, APrefillStepTakesTheTimeSinceTheStepBeforeIt) {
  const CapturedLog log;
  StepLog steps(1, [] { return kBubble; });
  // Both are published ahead of need; the second is computed in the second from 1 s to 2 s.
  steps.Published(0, {100, 0, 1, 64}, 0);
  steps.Published(1, {300, 0, 0}, 0);
  steps.Completed(0, kLoad, kSecond);
  steps.Completed(1, kLoad, 2 * kSecond);
  EXPECT_EQ(
      log.text(),
      "Prefill batch, #new-seq: 1, #new-token: 100, #cached-token: 64, token usage: 0.64, #running-req: 3, "
      "#queue-req: 2, input throughput (token/s): 100.00, pipeline bubble (%): 12.5\n"
      "Prefill batch, #new-seq: 0, #new-token: 300, #cached-token: 0, token usage: 0.64, #running-req: 3, "
      "#queue-req: 2, input throughput (token/s): 300.00, pipeline bubble (%): 12.5\n");
}

TEST(StepLog, ADecodeLineComesEveryIntervalAndAddsUpWhatWasBetween) {
  const CapturedLog log;
  StepLog steps(3, [] { return std::optional<double>(); });
  for (int64_t step = 0; step < 7; ++step) {
    steps.Published(step, {0, 2, 0}, step * kSecond);
    steps.Completed(step, kLoad, step * kSecond + kSecond / 2);
  }
  const std::string line =
      "Decode batch, #running-req: 3, #token: 640, token usage: 0.64, gen throughput (token/s): 4.00, "
      "#queue-req: 2, pipeline bubble (%): -\n";
  EXPECT_EQ(log.text(), line + line);
}

TEST(StepLog, AStepWithBothHasBothLines) {
  const CapturedLog log;
  StepLog steps(1, [] { return kBubble; });
  steps.Published(0, {10, 2, 1}, 0);
  steps.Completed(0, kLoad, kSecond);
  EXPECT_NE(log.text().find("Prefill batch, #new-seq: 1, #new-token: 10,"), std::string::npos);
  EXPECT_NE(log.text().find("gen throughput (token/s): 2.00"), std::string::npos);
}

}  // namespace
}  // namespace sluice::engine
