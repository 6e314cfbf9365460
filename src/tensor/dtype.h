#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "base/host_device.h"

namespace sluice {

enum class DType : uint8_t { kF32, kBF16, kF16, kF8E4M3, kI32, kU8 };

constexpr int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kF8E4M3:
    case DType::kU8:
      return 1;
  }
  return 0;
}

// The name that safetensors headers use.
constexpr std::string_view NameOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kBF16:
      return "BF16";
    case DType::kF16:
      return "F16";
    case DType::kF8E4M3:
      return "F8_E4M3";
    case DType::kI32:
      return "I32";
    case DType::kU8:
      return "U8";
  }
  return "?";
}

// bfloat16 and e4m3 as their bits. Conversions are the only arithmetic; everything is computed in fp32 or
// wider.
struct BF16 {
  uint16_t bits = 0;
};
struct F8E4M3 {
  uint8_t bits = 0;
};

inline float ToFloat(BF16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

// Rounds to nearest, ties to even; NaN stays NaN (quiet).
inline BF16 ToBF16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return {static_cast<uint16_t>((bits >> 16) | 0x40U)};
  return {static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}

inline float RoundToBF16(float value) { return ToFloat(ToBF16(value)); }

// IEEE half to float, exact.
float HalfToFloat(uint16_t half);

// e4m3fn: 4 exponent bits (bias 7), 3 mantissa bits, no infinity, 0x7f and 0xff are NaN, largest 448.
inline constexpr float kF8Max = 448.0F;
float ToFloat(F8E4M3 value);
// Rounds to nearest, ties to even, after clamping to +-448; NaN gives NaN. Subnormals down to 2^-9.
F8E4M3 ToF8E4M3(float value);

// The power-of-two scale of a quantisation block whose largest magnitude is `amax`:
// 2^ceil(log2(max(amax, 1e-4) / 448)), the "ue8m0" rule of the DeepSeek-V3.2 checkpoints.
// NaN counts as 0.
SLUICE_HOST_DEVICE inline float PowerOfTwoScale(float amax) {
  const float scale = (amax > 1e-4F ? amax : 1e-4F) / kF8Max;
  const auto bits = __builtin_bit_cast(uint32_t, scale);
  const uint32_t exponent = (bits >> 23) + ((bits & 0x7fffffU) != 0 ? 1U : 0U);
  return __builtin_bit_cast(float, exponent << 23);
}

}  // namespace sluice
