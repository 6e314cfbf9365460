#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "comm/communicator.h"

namespace sluice::comm {

// No transfer has this slot or the kTagLimit slots before it: a back end may use them for itself.
inline constexpr uint64_t kReservedSlot = ~uint64_t{0};

// One rank's side of a world: what a back end with point-to-point transfers has to supply. Ranks here are
// ranks of the world. A slot is a tag with its group folded in: equal slots between two ranks match in order.
// Buffers are not empty and peers are other ranks. Thread-safe.
class Endpoint {
 public:
  virtual ~Endpoint() = default;
  virtual std::unique_ptr<Transfer> Send(int to, uint64_t slot, std::span<const std::byte> buffer) = 0;
  virtual std::unique_ptr<Transfer> Receive(int from, uint64_t slot, std::span<std::byte> buffer) = 0;
  virtual void Abort(std::string_view reason) = 0;
};

// The communicator of all `size` ranks over `endpoint`; its subgroups share the endpoint, which lives as long
// as any of them.
std::unique_ptr<Communicator> MakeWorldCommunicator(std::shared_ptr<Endpoint> endpoint, int rank, int size);

}  // namespace sluice::comm
