#include "comm/frame.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/wire.h"

namespace sluice::comm {
namespace {

constexpr size_t kChecksumAt = 32;

// The payload first: its own sum is the same for every frame that carries it.
uint32_t Checksum(std::span<const std::byte> header, uint32_t of_payload) {
  return Crc32c(header.first(kChecksumAt), of_payload);
}

}  // namespace

std::array<std::byte, kFrameHeaderBytes> EncodeFrameHeader(const Frame& frame) {
  SLUICE_CHECK(frame.payload.size() <= kMaxFramePayload,
               "a control frame of type {} has {} bytes, the limit is {}", frame.type, frame.payload.size(),
               kMaxFramePayload);
  WireWriter writer;
  writer.Put(kFrameMagic);
  writer.Put(kFrameVersion);
  writer.Put(frame.type);
  writer.Put(frame.step);
  writer.Put(frame.number);
  writer.Put(frame.pass);
  writer.Put(static_cast<uint32_t>(frame.payload.size()));
  const std::vector<std::byte> bytes = writer.Take();
  std::array<std::byte, kFrameHeaderBytes> header;
  std::ranges::copy(bytes, header.begin());
  const uint32_t checksum = Checksum(header, frame.payload.crc32c());
  std::memcpy(header.data() + kChecksumAt, &checksum, sizeof(checksum));
  return header;
}

std::vector<std::byte> EncodeFrame(const Frame& frame) {
  const auto header = EncodeFrameHeader(frame);
  std::vector<std::byte> bytes;
  bytes.reserve(kFrameHeaderBytes + frame.payload.size());
  bytes.assign(header.begin(), header.end());
  bytes.insert(bytes.end(), frame.payload.begin(), frame.payload.end());
  return bytes;
}

FrameHeader DecodeFrameHeader(std::span<const std::byte, kFrameHeaderBytes> bytes, size_t limit) {
  WireReader reader(bytes);
  FrameHeader header;
  if (const auto magic = reader.Get<uint32_t>(); magic != kFrameMagic) {
    Fail(ErrorKind::kRankLost,
         "a control frame begins with {:#010x} instead of {:#010x}; is the peer a sluice rank?", magic,
         kFrameMagic);
  }
  if (const auto version = reader.Get<uint16_t>(); version != kFrameVersion) {
    Fail(ErrorKind::kRankLost,
         "a control frame has layout version {}, this build speaks {}; run one build everywhere", version,
         kFrameVersion);
  }
  header.type = reader.Get<uint16_t>();
  header.step = reader.Get<uint64_t>();
  header.number = reader.Get<uint64_t>();
  header.pass = reader.Get<uint32_t>();
  header.payload_bytes = reader.Get<uint32_t>();
  header.checksum = reader.Get<uint32_t>();
  if (header.payload_bytes > limit) {
    Fail(ErrorKind::kRankLost, "a control frame of type {} announces {} bytes, the limit is {}", header.type,
         header.payload_bytes, limit);
  }
  return header;
}

void CheckFrame(std::span<const std::byte, kFrameHeaderBytes> header, std::span<const std::byte> payload) {
  const FrameHeader fields = DecodeFrameHeader(header);
  const uint32_t found = Checksum(header, Crc32c(payload));
  if (found != fields.checksum) {
    Fail(ErrorKind::kRankLost,
         "a control frame of type {} with {} bytes has checksum {:#010x}, its header says {:#010x}",
         fields.type, payload.size(), found, fields.checksum);
  }
}

Frame DecodeFrame(std::span<const std::byte> bytes, size_t limit) {
  if (bytes.size() < kFrameHeaderBytes) {
    Fail(ErrorKind::kRankLost, "a control frame is cut short: {} of {} header bytes", bytes.size(),
         kFrameHeaderBytes);
  }
  const auto header_bytes = bytes.first<kFrameHeaderBytes>();
  const auto payload = bytes.subspan(kFrameHeaderBytes);
  const FrameHeader header = DecodeFrameHeader(header_bytes, limit);
  if (payload.size() < header.payload_bytes) {
    Fail(ErrorKind::kRankLost, "a control frame of type {} is cut short: {} of {} payload bytes", header.type,
         payload.size(), header.payload_bytes);
  }
  if (payload.size() > header.payload_bytes) {
    Fail(ErrorKind::kRankLost, "a control frame of type {} has {} bytes too many", header.type,
         payload.size() - header.payload_bytes);
  }
  CheckFrame(header_bytes, payload);
  return {header.type, header.step, header.pass, std::vector<std::byte>(payload.begin(), payload.end()),
          header.number};
}

}  // namespace sluice::comm
