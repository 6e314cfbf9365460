#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "comm/communicator.h"
#include "comm/key_value_store.h"

// The data plane between GPUs as the engine sees it. A build without CUDA has the same functions; there they
// throw Error(kUsage) saying so.
namespace sluice::comm {

// Throws Error(kUsage) with a sentence when NCCL's library is not found or is older than the one this program
// was built with.
void CheckNccl();

// The communicator of `rank` in a world of `size` ranks that each have a GPU of their own, this one `device`,
// whose memory is `memory` (nccl_world.h, NcclCommunicator). `bind` is the address or the network interface
// by which the other ranks' hosts reach this one. Throws as MakeNcclWorld.
std::unique_ptr<Communicator> MakeNcclPlane(int rank, int size, KeyValueStore& store, const std::string& bind,
                                            int device, Memory& memory, Duration timeout);

}  // namespace sluice::comm
