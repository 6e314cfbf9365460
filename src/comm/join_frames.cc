#include "comm/join_frames.h"

#include <utility>

#include "base/error.h"
#include "base/wire.h"

namespace sluice::comm {
namespace {

void Put(WireWriter& writer, const std::array<std::byte, 32>& bytes) {
  for (const std::byte byte : bytes) writer.Put(byte);
}

std::array<std::byte, 32> Get32(WireReader& reader) {
  std::array<std::byte, 32> bytes;
  for (std::byte& byte : bytes) byte = reader.Get<std::byte>();
  return bytes;
}

// The layout cannot be read in two ways: strings and lists carry their length.
std::vector<std::byte> Claim(const std::string& role, const Joining& joining,
                             const std::string& sentence = "") {
  WireWriter writer;
  writer.PutString(role);
  Put(writer, joining.controllers);
  Put(writer, joining.ranks);
  writer.PutList(std::span<const std::byte>(joining.hello));
  writer.PutString(sentence);
  return writer.Take();
}

}  // namespace

void SendJoin(Channel& channel, JoinFrame type, std::vector<std::byte> payload) {
  Frame frame;
  frame.type = static_cast<uint16_t>(type);
  frame.payload = std::move(payload);
  channel.Send(frame);
}

void FailUnexpected(const Channel& channel, const Frame& frame) {
  Fail(ErrorKind::kRankLost, "{} sent a frame of type {:#06x} out of turn while joining", channel.peer(),
       frame.type);
}

std::vector<std::byte> Joining::ClaimOfRank() const { return Claim("sluice join: rank", *this); }
std::vector<std::byte> Joining::ClaimOfController() const { return Claim("sluice join: controller", *this); }
std::vector<std::byte> Joining::ClaimOfRefusal(const std::string& sentence) const {
  return Claim("sluice join: refusal", *this, sentence);
}

std::vector<std::byte> Encode(const std::array<std::byte, 32>& nonce_or_proof) {
  WireWriter writer;
  Put(writer, nonce_or_proof);
  return writer.Take();
}

std::array<std::byte, 32> DecodeNonceOrProof(const Frame& frame) {
  WireReader reader(frame.payload);
  const auto bytes = Get32(reader);
  reader.Done();
  return bytes;
}

std::vector<std::byte> Encode(const HelloFrame& hello) {
  WireWriter writer;
  Put(writer, hello.ranks);
  Put(writer, hello.proof);
  writer.PutList(std::span<const std::byte>(hello.hello));
  return writer.Take();
}

HelloFrame DecodeHelloFrame(const Frame& frame) {
  WireReader reader(frame.payload);
  HelloFrame hello;
  hello.ranks = Get32(reader);
  hello.proof = Get32(reader);
  hello.hello = reader.GetList<std::byte>();
  reader.Done();
  return hello;
}

std::vector<std::byte> Encode(const RefusedFrame& refused) {
  WireWriter writer;
  writer.PutString(refused.sentence);
  Put(writer, refused.proof);
  return writer.Take();
}

RefusedFrame DecodeRefusedFrame(const Frame& frame) {
  WireReader reader(frame.payload);
  RefusedFrame refused;
  refused.sentence = reader.GetString();
  refused.proof = Get32(reader);
  reader.Done();
  return refused;
}

}  // namespace sluice::comm
