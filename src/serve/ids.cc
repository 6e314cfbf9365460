#include "serve/ids.h"

#include <fmt/format.h>

#include <random>

namespace sluice::serve {

uint64_t RandomBits() {
  thread_local std::mt19937_64 generator = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  return generator();
}

std::string RandomHex() {
  return fmt::format("{:016x}{:08x}", RandomBits(), static_cast<uint32_t>(RandomBits()));
}

}  // namespace sluice::serve
