#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "base/error.h"
#include "tensor/memory.h"

namespace sluice::comm {

// For tests: memory that the host cannot touch, as a device's. Every allocation is mapped twice, and the
// addresses that are handed out are of the mapping without access: whoever uses one other than through Copy
// ends the process. Thread-safe.
class PretendDevice final : public Memory {
 public:
  bool OnHost() const override { return false; }

  std::byte* Allocate(int64_t bytes) override {
    const auto size = static_cast<size_t>(std::max<int64_t>(1, bytes));
    const int file = memfd_create("pretend_device", 0);
    SLUICE_CHECK(file >= 0 && ftruncate(file, static_cast<off_t>(size)) == 0, "{} bytes", size);
    void* device = mmap(nullptr, size, PROT_NONE, MAP_SHARED, file, 0);
    void* real = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    SLUICE_CHECK(device != MAP_FAILED && real != MAP_FAILED, "{} bytes", size);
    std::lock_guard lock(mutex_);
    blocks_[static_cast<std::byte*>(device)] = {static_cast<std::byte*>(real), size};
    return static_cast<std::byte*>(device);
  }

  void Free(std::byte* memory, int64_t) noexcept override {
    std::lock_guard lock(mutex_);
    const auto block = blocks_.find(memory);
    munmap(block->first, block->second.bytes);
    munmap(block->second.real, block->second.bytes);
    blocks_.erase(block);
  }

  void Copy(const void* from, void* to, int64_t bytes) override {
    if (bytes > 0) std::memmove(Real(to), Real(from), static_cast<size_t>(bytes));
  }

 private:
  struct Block {
    std::byte* real = nullptr;
    size_t bytes = 0;
  };

  // What the host may use in place of an address of this memory; other addresses are the host's.
  std::byte* Real(const void* address) {
    auto* at = const_cast<std::byte*>(static_cast<const std::byte*>(address));
    std::lock_guard lock(mutex_);
    auto block = blocks_.upper_bound(at);
    if (block == blocks_.begin()) return at;
    --block;
    const auto offset = static_cast<size_t>(at - block->first);
    return offset < block->second.bytes ? block->second.real + offset : at;
  }

  std::mutex mutex_;
  std::map<std::byte*, Block> blocks_;
};

}  // namespace sluice::comm
