#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/cuda/staging.h"

namespace sluice::ops::cuda {

// The lists of a recorded pass: at the same place in device memory every time they are put there in the same
// order with the same sizes, and brought all at once.
class PassLists {
 public:
  PassLists(Memory& memory, Staging& staging) : memory_(memory), staging_(staging) {}

  // Takes `bytes`, once.
  void Fix(int64_t bytes) { device_ = Buffer(bytes, memory_); }
  // A pass begins: its first list takes the first place.
  void Begin() { image_.clear(), brought_ = 0; }
  // Where the list will be. Throws Error(kInternal) beyond what was fixed.
  std::byte* Put(std::span<const std::byte> bytes);
  // Enqueues the copy of what was put since the last time.
  void Bring();

 private:
  Memory& memory_;
  Staging& staging_;
  Buffer device_;
  std::vector<std::byte> image_;
  int64_t brought_ = 0;
};

}  // namespace sluice::ops::cuda
