#pragma once

#include <signal.h>

#include <chrono>

#include "engine/engine.h"
#include "serve/server.h"

namespace sluice::cli {

// Returns when the server has ended: after SIGTERM or SIGINT it drains, for as long as requests run but at
// most `drain_timeout`, or until the signal comes again. SIGQUIT logs the stall report. Throws
// Error(kRankLost) with the verdict when the job ends. `signals` are blocked in every thread.
void ServeUntilSignal(serve::Server& server, engine::Engine& engine, const sigset_t& signals,
                      std::chrono::seconds drain_timeout);

}  // namespace sluice::cli
