#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "comm/payload.h"

namespace sluice::comm {

// One message of the control plane. On the wire, little-endian, without padding:
//   offset  0  u32  magic, the letters "SLCF"
//           4  u16  version of this layout
//           6  u16  type; what types mean is the sender's and the receiver's affair
//           8  u64  step
//          16  u64  number; 0 unless an ordered channel (ordered_channel.h) counted the frame
//          24  u32  pass
//          28  u32  payload bytes
//          32  u32  checksum: CRC-32C (Castagnoli) of the payload, then bytes 0..31
//          36       payload
struct Frame {
  uint16_t type = 0;
  uint64_t step = 0;
  uint32_t pass = 0;
  Payload payload;
  uint64_t number = 0;

  bool operator==(const Frame&) const = default;
};

inline constexpr uint32_t kFrameMagic = 0x46434c53;
inline constexpr uint16_t kFrameVersion = 2;
inline constexpr size_t kFrameHeaderBytes = 36;
// The longest frames are raw logits for comparisons: 500 rows over the 129,280 tokens of DeepSeek-V3.2 just
// fit. Steps, results and cache dumps stay far below. A length beyond it is refused before anything is
// allocated.
inline constexpr size_t kMaxFramePayload = size_t{256} << 20;

struct FrameHeader {
  uint16_t type = 0;
  uint64_t step = 0;
  uint64_t number = 0;
  uint32_t pass = 0;
  uint32_t payload_bytes = 0;
  uint32_t checksum = 0;
};

// The header before the payload. Throws Error(kInternal) for a payload beyond kMaxFramePayload.
std::array<std::byte, kFrameHeaderBytes> EncodeFrameHeader(const Frame& frame);
// Header and payload as sent. Throws Error(kInternal) for a payload beyond kMaxFramePayload.
std::vector<std::byte> EncodeFrame(const Frame& frame);

// Reads the kFrameHeaderBytes before a payload. Throws Error(kRankLost) for a wrong magic, another version
// and a length beyond `limit`, which is kMaxFramePayload or less.
FrameHeader DecodeFrameHeader(std::span<const std::byte, kFrameHeaderBytes> bytes,
                              size_t limit = kMaxFramePayload);

// Throws Error(kRankLost) unless the checksum stands for this header and payload.
void CheckFrame(std::span<const std::byte, kFrameHeaderBytes> header, std::span<const std::byte> payload);

// A whole frame in one piece. Throws Error(kRankLost) as above and for bytes missing or left over.
Frame DecodeFrame(std::span<const std::byte> bytes, size_t limit = kMaxFramePayload);

}  // namespace sluice::comm
