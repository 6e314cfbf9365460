#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/work_stream.h"

namespace sluice {

// How processes of one host show one another memory of their devices, and marks on their streams. What is
// shown has a name, bytes that mean something to another process of the host. Throws Error(kInternal) with
// the driver's words where it refuses. Thread-safe.
class DeviceSharing {
 public:
  using Name = std::vector<std::byte>;

  virtual ~DeviceSharing() = default;
  // Of this process: equal where names can be meant for one another, and what the device is called by all of
  // the host.
  virtual std::string Host() = 0;
  virtual std::string Device() = 0;
  // Why this process's device cannot copy to memory of `device`, as Device names one; empty when it can.
  virtual std::string WhyNotTo(const std::string& device) = 0;

  // Of memory as Memory::Allocate returned it. From now on Memory::Free leaves it alone and the driver takes
  // it back when the process ends: another process may be writing there still.
  virtual Name NameOf(const std::byte* memory) = 0;
  // As long as the pointer, or a copy of it, is there.
  virtual std::shared_ptr<std::byte> Open(const Name& memory) = 0;

  // A mark of this process's streams, which Record records again and again. A wait is for the latest record
  // when it is put on a stream, whatever is recorded after.
  virtual std::unique_ptr<StreamMark> NewMark() = 0;
  virtual void Record(WorkStream& stream, StreamMark& mark) = 0;
  // From now on the mark must stay until the process ends: another process may be opening it still.
  virtual Name NameOf(const StreamMark& mark) = 0;
  // Another process's: for WaitFor alone. That it was recorded its process must have said by other means.
  virtual std::unique_ptr<StreamMark> OpenMark(const Name& mark) = 0;
};

}  // namespace sluice
