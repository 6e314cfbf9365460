#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

#include "base/error.h"
#include "evaluate/completion_server.h"

namespace sluice::evaluate {

// The user ended the run.
class Interrupted : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// How a crowd of requests ended. Whatever `work` has stored for the tasks that were done stands.
struct CrowdEnd {
  int64_t done = 0;
  double seconds = 0;
  std::optional<Error> failure;  // the first; none of the tasks after it was begun
  bool interrupted = false;      // by SIGINT or SIGTERM

  bool complete() const { return !failure && !interrupted; }
  // Why it is not complete, for people; empty when it is.
  std::string reason() const;
};

// Calls work(server, i) for every i from 0 to count - 1, in this order, on `parallel` threads with a
// connection each, and shows the progress under `name`. The first exception, or SIGINT or SIGTERM, ends
// it: what is under way is cancelled. A second signal ends the process.
CrowdEnd RunCrowd(const std::string& name, const ServerOptions& options, int64_t count, int64_t parallel,
                  const std::function<void(CompletionServer& server, int64_t index)>& work);

}  // namespace sluice::evaluate
