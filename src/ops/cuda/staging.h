#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/cuda/stream.h"
#include "tensor/tensor.h"

namespace sluice::ops::cuda {

// Brings the small lists that an op is given on the host (row numbers, places, page tables) to the device, in
// the order of a stream: through pinned memory, so that the host does not wait for the copy.
//
//   staging.Reserve(bytes of all lists of the op);  then Put for each;  then the op's launch on the same
//   stream
class Staging {
 public:
  static constexpr int64_t kAlignment = 256;  // of every list

  Staging(Memory& memory, Stream& stream) : memory_(memory), stream_(stream) {}
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Bytes it holds when lists of `bytes` together, alignment included, are the most that an op has.
  static int64_t SizeFor(int64_t bytes);
  // Takes `size` bytes, once and for all: it does not grow any more.
  void Fix(int64_t size);

  // Room for `bytes`, in at most `lists` lists: what Put returns from now on stays until the launches that
  // follow are through. Waits for the stream when the room has to be used again. Throws Error(kInternal)
  // beyond what was fixed.
  void Reserve(int64_t bytes, int lists);

  // The same values in device memory, aligned to 256 bytes. Within what was reserved.
  template <typename T>
  T* Put(std::span<const T> values) {
    return reinterpret_cast<T*>(PutBytes(std::as_bytes(values)));
  }
  template <typename T>
  T* Put(const std::vector<T>& values) {
    return Put(std::span<const T>(values));
  }
  // The same at a place in device memory that the caller has.
  void PutAt(std::span<const std::byte> bytes, std::byte* to);
  int64_t copies() const { return copies_; }  // since the start

 private:
  void Grow(int64_t size);
  std::byte* PutBytes(std::span<const std::byte> bytes);

  Memory& memory_;
  Stream& stream_;
  std::byte* pinned_ = nullptr;
  Buffer device_;  // the place of each byte of pinned_
  int64_t used_ = 0;
  int64_t copies_ = 0;
  bool fixed_ = false;
};

}  // namespace sluice::ops::cuda
