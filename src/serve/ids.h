#pragma once

#include <cstdint>
#include <string>

namespace sluice::serve {

// 64 random bits; thread-safe.
uint64_t RandomBits();

// 24 hexadecimal digits, unlike any other with near certainty: the part of an id that is random.
std::string RandomHex();

}  // namespace sluice::serve
