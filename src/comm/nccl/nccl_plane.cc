#include "comm/nccl/nccl_plane.h"

#include "comm/nccl/nccl_world.h"

namespace sluice::comm {

void CheckNccl() { CheckNcclVersion(); }

std::unique_ptr<Communicator> MakeNcclPlane(int rank, int size, KeyValueStore& store, const std::string& bind,
                                            int device, Memory& memory, Duration timeout) {
  NcclConfig config;
  config.device = device;
  config.memory = &memory;
  return MakeNcclWorld(rank, size, store, bind, config, timeout);
}

}  // namespace sluice::comm
