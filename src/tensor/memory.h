#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "tensor/work_stream.h"

namespace sluice {

// Where tensors lie: the host's memory, or that of a device, which the host reaches by copies only.
// Everything here is complete when it returns and thread-safe; work that a back end has only enqueued is not
// waited for.
class Memory {
 public:
  virtual ~Memory() = default;
  // True when the host may use addresses of this memory.
  virtual bool OnHost() const = 0;
  // Zero-filled, aligned to 256 bytes on a device and to a page on the host. Throws Error(kMemory).
  virtual std::byte* Allocate(int64_t bytes) = 0;
  virtual void Free(std::byte* memory, int64_t bytes) noexcept = 0;
  // Between any two places in this memory or the host's.
  virtual void Copy(const void* from, void* to, int64_t bytes) = 0;
  // Host memory that this one is copied to without another copy on the way. To take it or to free it is slow,
  // and may wait for all that a device does: it is for buffers that are used again. The host's own is this
  // one.
  virtual Memory& Landing();
  // Of the device; null where there are no streams.
  virtual std::unique_ptr<WorkStream> NewStream() { return nullptr; }
};

// Pages are committed on first touch.
Memory& HostMemory();

}  // namespace sluice
