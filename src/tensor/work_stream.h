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

// What a stream can be made to wait for before anybody has begun to work towards it. Shut when it is made;
// opened once, by a stream in its turn or by the host, whoever comes first. Whoever makes a stream wait for a
// gate sees to it that the gate is opened, whatever happens.
class StreamGate {
 public:
  virtual ~StreamGate() = default;
  // By the host, at once, and from any thread.
  virtual void Open() = 0;
};

// Work of a device, done in the order in which it was put here. Every call but Finish puts something behind
// what is there and returns. While a stream waits for a gate nobody may free memory of its device: the
// driver would wait as well.
class WorkStream {
 public:
  virtual ~WorkStream() = default;
  virtual std::unique_ptr<StreamMark> Record() = 0;
  // Of a mark that was recorded, on any stream. The mark may go afterwards.
  virtual void WaitFor(const StreamMark& mark) = 0;
  // Holds no compute while it waits. The gate may go once it is open.
  virtual void WaitFor(const StreamGate& gate) = 0;
  // What was put here before is seen by whoever waited for the gate.
  virtual void Open(StreamGate& gate) = 0;
  virtual void Copy(const void* from, void* to, int64_t bytes) = 0;
  // By a thread of the driver's; may not use the device.
  virtual void Call(std::function<void()> what) = 0;
  // The host waits until everything put here is done.
  virtual void Finish() = 0;
  // Called before the host waits for this stream: returns when what the stream waits for is sure to come, or
  // throws. Null: nothing.
  virtual void SetBeforeFinish(std::function<void()> settle) = 0;
};

}  // namespace sluice
