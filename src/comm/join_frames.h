#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/channel.h"
#include "comm/hello.h"
#include "comm/job_secret.h"

namespace sluice::comm {

// The frames of rendezvous.h. Their numbers are far from those of the job's own messages, so that a message
// that comes too early is seen to be one.
enum class JoinFrame : uint16_t {
  kChallenge = 0xff00,  // nonce
  kHello = 0xff01,      // nonce, proof of the rank, list of bytes: the encoded Hello
  kWelcome = 0xff02,    // proof of the controller
  kRefused = 0xff03,  // string sentence, proof of the refusal; both empty for a rank that has proven nothing
  kSet = 0xff04,      // string key, list of bytes
  kGet = 0xff05,      // string key, i64 nanoseconds to wait
  kValue = 0xff06,    // list of bytes
  kNoValue = 0xff07,  // empty
  kConnected = 0xff08,  // empty
};

// The longest payload either side takes before the other has proven that it knows the secret.
inline constexpr size_t kMaxStrangersPayload = size_t{64} << 10;

void SendJoin(Channel& channel, JoinFrame type, std::vector<std::byte> payload = {});
inline JoinFrame TypeOf(const Frame& frame) { return static_cast<JoinFrame>(frame.type); }
[[noreturn]] void FailUnexpected(const Channel& channel, const Frame& frame);

// One joining, as both sides must see it. A proof is the HMAC over who proves (so that it cannot be sent back
// as the other side's), both nonces (so that it cannot be used again) and all that the rank says of itself.
struct Joining {
  Nonce controllers;
  Nonce ranks;
  std::vector<std::byte> hello;  // as encoded

  std::vector<std::byte> ClaimOfRank() const;
  std::vector<std::byte> ClaimOfController() const;
  std::vector<std::byte> ClaimOfRefusal(const std::string& sentence) const;
};

// Payloads. Decoding throws Error(kRankLost) for bytes missing or left over.
struct HelloFrame {
  Nonce ranks;
  Mac proof;
  std::vector<std::byte> hello;
};
struct RefusedFrame {
  std::string sentence;
  Mac proof{};
};
std::vector<std::byte> Encode(const std::array<std::byte, 32>& nonce_or_proof);
std::array<std::byte, 32> DecodeNonceOrProof(const Frame& frame);
std::vector<std::byte> Encode(const HelloFrame& hello);
HelloFrame DecodeHelloFrame(const Frame& frame);
std::vector<std::byte> Encode(const RefusedFrame& refused);
RefusedFrame DecodeRefusedFrame(const Frame& frame);

}  // namespace sluice::comm
