#include "comm/damage.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::comm {
namespace {

std::vector<std::byte> MessageOf(size_t payload) {
  std::vector<std::byte> message(payload + kSealBytes);
  for (size_t i = 0; i < payload; ++i) message[i] = static_cast<std::byte>(i * 37 + 11);
  CloseMessage(message, 7);
  return message;
}

TEST(Damage, EveryFlippedBitIsFound) {
  for (const size_t payload : {0U, 1U, 7U, 8U, 9U, 41U}) {
    std::vector<std::byte> message = MessageOf(payload);
    EXPECT_TRUE(IsWhole(message, 7));
    EXPECT_FALSE(IsWhole(message, 8)) << "the message of another pass";
    for (size_t bit = 0; bit < 8 * message.size(); ++bit) {
      const auto mask = static_cast<std::byte>(1U << bit % 8);
      message[bit / 8] ^= mask;
      EXPECT_FALSE(IsWhole(message, 7)) << payload << " bytes, bit " << bit;
      message[bit / 8] ^= mask;
    }
  }
}

TEST(Damage, WordsThatChangedPlacesAreFound) {
  std::vector<std::byte> message = MessageOf(64);
  for (size_t i = 0; i < 8; ++i) std::swap(message[i], message[32 + i]);
  EXPECT_FALSE(IsWhole(message, 7));
}

}  // namespace
}  // namespace sluice::comm
