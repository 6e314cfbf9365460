#pragma once

#include <cstdint>

namespace sluice::schedule {

// How many may wait for admission. Those that were admitted before and were preempted count, and are never
// turned away for it.
struct QueueBound {
  int64_t requests = 0;     // --max-queued-requests
  int64_t prompt_rows = 0;  // --max-queued-tokens: of all their prompts. One alone may be longer

  bool HasRequestRoom(int64_t waiting) const { return waiting < requests; }
  bool HasTokenRoom(int64_t waiting, int64_t waiting_rows, int64_t prompt) const {
    return waiting == 0 || waiting_rows + prompt <= prompt_rows;
  }
};

}  // namespace sluice::schedule
