#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace sluice {

// A point in the work of a stream.
class StreamMark {
 public:
  virtual ~StreamMark() = default;
};

// Work of a device, done in the order in which it was put here. Every call but Finish puts something behind
// what is there and returns. A stream waits for nothing but what was put on a stream before: so whatever
// queues a driver makes of streams, work that is there gets done (docs/decisions/gpu-hop.md).
class WorkStream {
 public:
  virtual ~WorkStream() = default;
  virtual std::unique_ptr<StreamMark> Record() = 0;
  // Of a mark that was recorded, on any stream. Holds no compute while it waits. The mark may go afterwards.
  virtual void WaitFor(const StreamMark& mark) = 0;
  virtual void Copy(const void* from, void* to, int64_t bytes) = 0;
  // By a thread of the driver's; may not use the device.
  virtual void Call(std::function<void()> what) = 0;
  // The host waits until everything put here is done.
  virtual void Finish() = 0;
  // The same of what stood before a mark of this stream; what stands behind it goes on meanwhile.
  virtual void FinishUpTo(const StreamMark& mark) = 0;
  // Called before the host waits for this stream: returns when what the stream waits for is sure to come, or
  // throws. Null: nothing.
  virtual void SetBeforeFinish(std::function<void()> settle) = 0;
};

}  // namespace sluice
