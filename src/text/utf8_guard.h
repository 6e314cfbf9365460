#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace sluice::text {

// Where a text stands inside a character of UTF-8 (RFC 3629).
enum class Utf8Place : uint8_t {
  kBetween,    // characters
  kOneMore,    // 80..BF
  kTwoMore,    // 80..BF, then one more
  kThreeMore,  // 80..BF, then two more
  kBehindE0,   // A0..BF, then one more
  kBehindED,   // 80..9F, then one more: no surrogates
  kBehindF0,   // 90..BF, then two more
  kBehindF4,   // 80..8F, then two more
  kBroken,     // no text goes on from here
};
inline constexpr int kUtf8Places = 8;  // without kBroken

// The place behind `bytes` when they follow a text at `place`.
Utf8Place Follow(Utf8Place place, std::string_view bytes);

// Which tokens keep a text UTF-8: the masks of the grammar library let some bytes through that are none.
class Utf8Guard {
 public:
  // The bytes of every token of the vocabulary.
  explicit Utf8Guard(std::span<const std::string_view> tokens);
  // Clears the bits of tokens that cannot follow; bit t % 32 of word t / 32 is token t's.
  void Narrow(Utf8Place place, std::span<uint32_t> allowed) const;

 private:
  std::array<std::vector<uint32_t>, kUtf8Places> fits_;
};

}  // namespace sluice::text
