#include "text/utf8_guard.h"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <random>
#include <string>

namespace sluice::text {
namespace {

TEST(Utf8Guard, IsBetweenCharactersExactlyBehindValidText) {
  std::mt19937 random(3);
  const unsigned char telling[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
                                   0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
  int valid = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string bytes;
    for (size_t size = random() % 6; size > 0; --size) {
      bytes += static_cast<char>(telling[random() % std::size(telling)]);
    }
    const bool expected = simdjson::validate_utf8(bytes);
    valid += expected ? 1 : 0;
    ASSERT_EQ(Follow(Utf8Place::kBetween, bytes) == Utf8Place::kBetween, expected);
  }
  EXPECT_GT(valid, 5000);
}

TEST(Utf8Guard, WhatIsNotBrokenCanBecomeValid) {
  for (int place = 0; place < kUtf8Places; ++place) {
    bool found = false;
    for (const std::string tail :
         {"", "\x80", "\xA0", "\x80\x80", "\xA0\x80", "\x90\x80\x80", "\x80\x80\x80"}) {
      found = found || Follow(static_cast<Utf8Place>(place), tail) == Utf8Place::kBetween;
    }
    EXPECT_TRUE(found) << place;
  }
}

TEST(Utf8Guard, LeavesOnlyTokensThatMayFollow) {
  const std::string_view tokens[] = {"a", "\x80", "\xA0", "\xC3", "\xC3\xA9", "\xED\xA0", "\xA0\x80z", ""};
  const Utf8Guard guard(tokens);
  uint32_t allowed = 0xFF;
  guard.Narrow(Utf8Place::kBetween, {&allowed, 1});
  EXPECT_EQ(allowed, 0b10011001U);
  allowed = 0xFF;
  guard.Narrow(Utf8Place::kBehindE0, {&allowed, 1});
  EXPECT_EQ(allowed, 0b11000100U);
  allowed = 0b10;
  guard.Narrow(Utf8Place::kBehindED, {&allowed, 1});
  EXPECT_EQ(allowed, 0b10U);
}

}  // namespace
}  // namespace sluice::text
