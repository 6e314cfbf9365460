#pragma once

#include <cstdint>

// Byte layouts of the two caches a layer keeps, and of the rows that travel between lanes to fill them; and
// of quantised rows that FP8 linears multiply (Activation in ops.h), some of which travel to experts.
//
// Latents, token-contiguous: page p holds kPageTokens rows, row j at j * LatentRowBytes.
//   kF32:  latent[512] fp32 | k_pe[64] fp32                                          2304 bytes
//   kBf16: latent[512] bf16 | k_pe[64] bf16                                          1152 bytes
//   kFp8:  latent[512] e4m3 | 4 fp32 scales (one per 128) | k_pe[64] bf16              656 bytes
//
// Index keys:
//   kF32:  row j at j * 512: key[128] fp32                                             512 bytes
//   kFp8, kBf16: block-planar: 64 keys x 128 e4m3 (key j at 128 j), then 64 fp32 scales
//          (of key j at 8192 + 4 j)                                                    132 bytes
//   On the wire and in IndexKeyRows' output such a row is contiguous: 128 e4m3 | 1 fp32 scale.
//
// Sizes below are given for any latent, rope and index width, the figures above for DeepSeek-V3.2's.
namespace sluice::ops {

enum class CacheFormat : uint8_t { kF32, kFp8, kBf16 };

inline constexpr int64_t kPageTokens = 64;
inline constexpr int64_t kQuantBlock = 128;  // consecutive channels that share one scale

// Codes and their scales without a gap.
constexpr int64_t ScaledCodeBytes(int64_t channels) {
  return channels + 4 * ((channels + kQuantBlock - 1) / kQuantBlock);
}
// A row of an Activation's quantised form: channels e4m3 | a fp32 scale for every 128 | nothing, so that the
// next row begins at a multiple of 128 bytes, which a copy engine brings fastest. 7,168 channels: 7,424
// bytes.
constexpr int64_t QuantizedRowBytes(int64_t channels) {
  return (ScaledCodeBytes(channels) + 127) / 128 * 128;
}
constexpr int64_t LatentRowBytes(CacheFormat format, int64_t latent, int64_t rope) {
  if (format == CacheFormat::kF32) return 4 * (latent + rope);
  if (format == CacheFormat::kBf16) return 2 * (latent + rope);
  return ScaledCodeBytes(latent) + 2 * rope;
}
static_assert(LatentRowBytes(CacheFormat::kBf16, 512, 64) == 1152);
static_assert(LatentRowBytes(CacheFormat::kFp8, 512, 64) == 656);
constexpr int64_t IndexRowBytes(CacheFormat format, int64_t dim) {
  return format == CacheFormat::kF32 ? 4 * dim : dim + 4;
}

}  // namespace sluice::ops
