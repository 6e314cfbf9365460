#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>

#include "base/compute_pool.h"
#include "tensor/tensor.h"

namespace sluice {

// Brings weights from pageable host memory, such as a mapped file, to a device. The driver copies such memory
// piece by piece on the calling thread, which also takes the page faults: one thread's pace, and the link
// idle meanwhile. Here several threads fill pieces of memory that the device copies from directly.
class Upload {
 public:
  static constexpr int64_t kPieceBytes = int64_t{2} << 20;

  struct Span {
    const void* from = nullptr;  // on the host
    void* to = nullptr;          // on the device
    int64_t bytes = 0;
  };

  // To a device's memory, which has streams, with `threads` threads, the caller among them.
  Upload(Memory& memory, int threads);

  // Returns when everything is on the device. The first call takes landing memory, two pieces for each
  // thread, which stays. Throws what the device's streams throw. On one thread at a time.
  void Copy(std::span<const Span> spans);

 private:
  struct Slot {
    explicit Slot(Memory& memory) : pinned(kPieceBytes, memory.Landing()), stream(memory.NewStream()) {}
    Buffer pinned;
    std::unique_ptr<WorkStream> stream;  // takes what lies there to the device
  };

  void CopyPiece(const Span& piece);

  Memory& memory_;
  ComputePool pool_;
  std::deque<Slot> slots_;
  std::mutex mutex_;
  std::deque<Slot*> free_;  // at the front the one whose copy is the oldest
};

}  // namespace sluice
