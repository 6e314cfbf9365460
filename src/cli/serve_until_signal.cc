#include "cli/serve_until_signal.h"

#include <spdlog/spdlog.h>

#include "base/clock.h"
#include "base/error.h"

namespace sluice::cli {
namespace {

constexpr timespec kLook{0, 100'000'000};  // how soon the loss of a rank, or the last answer, is noticed here

}  // namespace

void ServeUntilSignal(serve::Server& server, engine::Engine& engine, const sigset_t& signals,
                      std::chrono::seconds drain_timeout) {
  bool draining = false;
  Deadline end = Deadline::max();
  while (engine.Verdict().empty()) {
    const int signal = sigtimedwait(&signals, nullptr, &kLook);
    if (signal == SIGQUIT) spdlog::warn("stall report\n{}", engine.Report().text);
    if (signal == SIGINT || signal == SIGTERM) {
      if (draining) {
        spdlog::warn("a second signal: requests under way are ended");
        return server.Stop();
      }
      draining = true;
      end = Clock::now() + drain_timeout;
      server.Drain();
      if (!server.idle()) {
        spdlog::info(
            "draining: no more requests are taken, those under way have {} s; the same signal again ends "
            "them at once",
            drain_timeout.count());
      }
    }
    if (draining && server.idle()) return server.Stop();
    if (draining && Clock::now() >= end) {
      spdlog::warn("requests are still under way after --drain-timeout {}: they are ended",
                   drain_timeout.count());
      return server.Stop();
    }
  }
  const std::string verdict = engine.Verdict();
  server.Stop();
  throw Error(ErrorKind::kRankLost, verdict);
}

}  // namespace sluice::cli
