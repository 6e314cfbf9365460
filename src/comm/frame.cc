#include "comm/frame.h"

#include <boost/crc.hpp>
#include <cstring>

#include "base/error.h"
#include "base/wire.h"

namespace sluice::comm {
namespace {

constexpr size_t kChecksumAt = 32;

uint32_t Checksum(std::span<const std::byte> header, std::span<const std::byte> payload) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc32c;
  crc32c.process_bytes(header.data(), kChecksumAt);
  crc32c.process_bytes(payload.data(), payload.size());
  return crc32c.checksum();
}

}  // namespace

std::vector<std::byte> EncodeFrame(const Frame& frame) {
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
  std::vector<std::byte> bytes = writer.Take();
  const uint32_t checksum = Checksum(bytes, frame.payload);
  bytes.resize(kFrameHeaderBytes + frame.payload.size());
  std::memcpy(bytes.data() + kChecksumAt, &checksum, sizeof(checksum));
  if (!frame.payload.empty()) {
    std::memcpy(bytes.data() + kFrameHeaderBytes, frame.payload.data(), frame.payload.size());
  }
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
  const uint32_t found = Checksum(header, payload);
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
  return {header.type, header.step, header.pass, {payload.begin(), payload.end()}, header.number};
}

}  // namespace sluice::comm
