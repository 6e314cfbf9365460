#pragma once

#include <cstdint>
#include <string_view>

#ifdef __CUDACC__
#define SLUICE_HOST_DEVICE __host__ __device__
#else
#define SLUICE_HOST_DEVICE
#endif

// A generator without state: element i of a tensor is a function of (seed, tensor name, i), so any device can
// make any part of a random checkpoint in any order and get the same bits. Everything is integer arithmetic
// but one multiply and one add in double, which neither compiler may contract.
namespace sluice {

// Fowler-Noll-Vo 1a over the bytes of a name.
constexpr uint64_t Fnv1a64(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3U;
  return hash;
}

// Steele, Lea and Flood's SplitMix64: one step from state x.
SLUICE_HOST_DEVICE constexpr uint64_t SplitMix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

// The key of a tensor's stream.
constexpr uint64_t TensorKey(uint64_t seed, std::string_view name) {
  return SplitMix64(seed ^ Fnv1a64(name));
}

// Element i: uniform in [center - spread, center + spread), from 24 bits, computed in double and rounded
// once.
SLUICE_HOST_DEVICE inline float RandomValue(uint64_t key, uint64_t i, double center, double spread) {
  const auto bits = static_cast<int32_t>(SplitMix64(key + i) >> 40);
  const double offset = static_cast<double>(bits - (1 << 23)) * 0x1p-23;  // exact, in [-1, 1)
#ifdef __CUDA_ARCH__
  return __double2float_rn(__dadd_rn(center, __dmul_rn(spread, offset)));
#else
  return static_cast<float>(center + spread * offset);
#endif
}

}  // namespace sluice
