#pragma once

#include <functional>

namespace sluice::comm {

// Runs body(rank) for each of `size` ranks on a thread of its own, and rethrows the first rank's exception
// when all have ended. For benchmarks and tests whose ranks are threads.
void OnAllRanks(int size, const std::function<void(int)>& body);

}  // namespace sluice::comm
