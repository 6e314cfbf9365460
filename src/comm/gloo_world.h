#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "comm/communicator.h"
#include "comm/key_value_store.h"

namespace sluice::comm {

inline constexpr const char* kLoopback = "127.0.0.1";

// The communicator of `rank` in a world of `size` ranks that are processes, over gloo's TCP transport: one
// connection to every other rank, found through `store`, moved along by one thread. Returns once all are
// connected. `bind` is the address or the network interface this rank is reached by, kLoopback for a job on
// one node. `timeout` bounds the connecting as a whole and each wait. Nothing is encrypted or authenticated.
// Throws Error(kNetwork) when `bind` is not an address of this host or the connections cannot be made,
// Error(kRankLost) when another rank does not come.
//
// Sizes must agree: gloo ends the process when a send is longer than its receive and does not see a shorter
// one. A time-out, an abort and a lost rank each end all of this rank's connections, and so the other ranks'
// waits for it. A rank that lost another says so first, so that the others name the one that was lost, as far as
// its words reach them. Before a world is destroyed its ranks meet in a Barrier, or the last transfers of a
// slower rank may be cut off. The process ignores SIGPIPE from now on.
std::unique_ptr<Communicator> MakeGlooWorld(int rank, int size, KeyValueStore& store, const std::string& bind,
                                            Duration timeout);

}  // namespace sluice::comm
