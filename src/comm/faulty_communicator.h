#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/fault_injector.h"

namespace sluice::comm {

// `inner` with the faults of a plan: every send of this rank, over the result and over the groups made of it,
// asks `injector` first. What becomes of the message:
//   delay      it leaves later; for the sender it has left
//   drop       it does not leave; for the sender it has
//   duplicate  it leaves twice under one tag: the receiver takes the first and never asks for the second
//   reorder    it leaves after the next message to the same rank, or after Fault::delay
//   corrupt    one bit of its middle byte is flipped
//   slow       it leaves when a link of this latency and bandwidth would have carried it; Wait waits for that
// The step of a message is that of the recorder's place, and without a recorder none. Collectives are the
// base class's mesh of sends, whatever `inner` would do.
std::unique_ptr<Communicator> MakeFaulty(std::unique_ptr<Communicator> inner,
                                         std::shared_ptr<FaultInjector> injector);

}  // namespace sluice::comm
