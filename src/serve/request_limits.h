#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::serve {

// Sizes that a request may have, whatever the model.
inline constexpr std::size_t kMaxJsonDepth = 64;
inline constexpr std::size_t kMaxPrompts = 256;        // prompts of one completions request
inline constexpr std::size_t kMaxMessages = 16384;     // turns of one chat
inline constexpr std::size_t kMaxContentParts = 4096;  // parts of one message
inline constexpr std::size_t kMaxTools = 128;          // of one chat
inline constexpr std::size_t kMaxToolNameBytes = 64;
inline constexpr std::size_t kMaxToolCalls = 128;  // of one message
inline constexpr std::size_t kMaxStopStrings = 16;
inline constexpr std::size_t kMaxStopStringBytes = 1024;
inline constexpr std::size_t kMaxStopTokenIds = 128;
inline constexpr std::size_t kMaxLogitBiases = 1024;
inline constexpr std::size_t kMaxIgnoredFieldsListed = 32;
inline constexpr std::size_t kMaxCacheSaltBytes = 256;

// A numeric field of a request body and the values it may have. Integers up to 2^53 are exact in a double,
// and no integer field but seeds, which take any int64, has a limit beyond that.
struct NumericField {
  std::string_view name;
  bool integer;
  double min;
  double max;
  bool above_min;  // min itself is refused
};

// The row of a field; the field must have one.
const NumericField& LimitsOf(std::string_view name);

}  // namespace sluice::serve
