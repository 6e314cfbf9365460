#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "base/error.h"

// What finds a damaged message of the data plane. TCP's own sum is 16 bits and ends at the network card, and
// a row with a flipped bit is a wrong answer that nothing else would notice.
namespace sluice::comm {

// An error for which another rank is to blame, in the eyes of the one that throws it.
class PeerError : public Error {
 public:
  PeerError(int peer, const std::string& sentence) : Error(ErrorKind::kRankLost, sentence), peer_(peer) {}
  int peer() const { return peer_; }

 private:
  int peer_;
};

inline constexpr size_t kSealBytes = 16;

// Fletcher's two sums over 64-bit words, the last one filled up with zeros: every flipped bit changes the
// first, and words that changed places change the second. `salt` begins them, so that the bytes of one
// message do not pass for those of another. As fast as memory; no defence against intent.
struct Seal {
  uint64_t sum = 0;
  uint64_t sum_of_sums = 0;
  bool operator==(const Seal&) const = default;
};
inline Seal SealOf(std::span<const std::byte> bytes, uint64_t salt) {
  Seal seal{salt, 0};
  size_t at = 0;
  const auto add = [&](size_t count) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, count);
    seal.sum += word;
    seal.sum_of_sums += seal.sum;
    at += count;
  };
  while (bytes.size() - at >= sizeof(uint64_t)) add(sizeof(uint64_t));
  if (at < bytes.size()) add(bytes.size() - at);
  return seal;
}

// `message` is payload and kSealBytes: CloseMessage writes the seal, IsWhole says whether it still fits.
inline void CloseMessage(std::span<std::byte> message, uint64_t salt) {
  const Seal seal = SealOf(message.first(message.size() - kSealBytes), salt);
  std::memcpy(message.last(kSealBytes).data(), &seal, kSealBytes);
}
inline bool IsWhole(std::span<const std::byte> message, uint64_t salt) {
  Seal seal;
  std::memcpy(&seal, message.last(kSealBytes).data(), kSealBytes);
  return seal == SealOf(message.first(message.size() - kSealBytes), salt);
}

}  // namespace sluice::comm
