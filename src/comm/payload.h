#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "comm/crc32c.h"

namespace sluice::comm {

// The bytes of a frame. They never change and copies share them, so a frame to sixteen ranks holds them once
// and sums them up once. Thread-safe.
class Payload {
 public:
  Payload() = default;
  // Implicit: whoever has encoded a message assigns it.
  Payload(std::vector<std::byte> bytes) : shared_(std::make_shared<const Shared>(std::move(bytes))) {}
  Payload(std::initializer_list<std::byte> bytes) : Payload(std::vector<std::byte>(bytes)) {}
  template <std::input_iterator Iterator>
  Payload(Iterator first, Iterator last) : Payload(std::vector<std::byte>(first, last)) {}

  const std::byte* data() const { return bytes().data(); }
  size_t size() const { return bytes().size(); }
  bool empty() const { return bytes().empty(); }
  auto begin() const { return bytes().begin(); }
  auto end() const { return bytes().end(); }
  const std::vector<std::byte>& bytes() const {
    static const std::vector<std::byte> kNone;
    return shared_ == nullptr ? kNone : shared_->bytes;
  }
  // Computed when first asked for.
  uint32_t crc32c() const {
    if (shared_ == nullptr) return 0;
    if (!shared_->summed.load(std::memory_order_acquire)) {
      shared_->crc.store(Crc32c(shared_->bytes), std::memory_order_relaxed);
      shared_->summed.store(true, std::memory_order_release);
    }
    return shared_->crc.load(std::memory_order_relaxed);
  }
  bool operator==(const Payload& other) const { return std::ranges::equal(bytes(), other.bytes()); }

 private:
  struct Shared {
    explicit Shared(std::vector<std::byte> given) : bytes(std::move(given)) {}
    const std::vector<std::byte> bytes;
    mutable std::atomic<uint32_t> crc = 0;
    mutable std::atomic<bool> summed = false;
  };
  std::shared_ptr<const Shared> shared_;
};

}  // namespace sluice::comm
