#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "comm/communicator.h"
#include "comm/key_value_store.h"
#include "tensor/device_sharing.h"

namespace sluice::comm {

// Which ranks a rank reaches by copies, and why it reaches others otherwise.
struct CopyEdges {
  std::vector<int> to;    // this rank copies into their memory
  std::vector<int> from;  // they copy into this one's
  std::vector<std::string>
      not_to;  // "rank 1: it is on another host"; for each rank that was asked for and is none of these
};

// The ranks of `inner`, each a process with a device whose memory is inner->memory(), shown by `sharing`.
// Transfers in the stream's form between ranks of one host go by copies of the sender's device into the
// receiver's memory (copy_rank.h), where the two have found at start that they can: neither holds compute of
// the receiver's device nor passes through a host. Everything else is inner's, and so are transfers to ranks
// that cannot be reached; what ends either ends both.
//
// `to` and `from`: the ranks that this one sends to and receives from in that form, which name it in turn.
// They find one another through `store`; `bind` is the address of this host that the others reach it by.
// `required`: who cannot be reached is an Error(kUsage) that says why and what to do. `edges`: filled; may be
// null. A rank that does not come is an Error(kRankLost) within `timeout`, which also bounds every wait.
//
// Receives go to buffers that were offered (Communicator::OfferBuffer).
std::unique_ptr<Communicator> MakePeerCopies(std::unique_ptr<Communicator> inner, DeviceSharing& sharing,
                                             std::span<const int> to, std::span<const int> from,
                                             KeyValueStore& store, const std::string& bind, bool required,
                                             Duration timeout, CopyEdges* edges);

}  // namespace sluice::comm
