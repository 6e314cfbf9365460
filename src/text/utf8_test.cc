#include "text/utf8.h"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <random>

namespace sluice::text {
namespace {

TEST(Utf8, EveryCodePointIsOneCharacter) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, text);
    ASSERT_TRUE(simdjson::validate_utf8(text));
    const Utf8Unit unit = FirstUtf8Unit(text);
    ASSERT_EQ(unit.kind, Utf8Unit::Kind::kCharacter);
    ASSERT_EQ(unit.length, text.size());
    ASSERT_EQ(CodePoint(text), c);
  }
}

// The Unicode Standard 15, section 3.9, tables 3-8 to 3-11, and the ends of every range of table 3-7.
TEST(Utf8, MaximalSubparts) {
  const std::string r(kReplacement);
  EXPECT_EQ(RepairUtf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(RepairUtf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(RepairUtf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(RepairUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
  EXPECT_EQ(RepairUtf8("\xC1\xBF\xF5\x80"), r + r + r + r);
  EXPECT_EQ(RepairUtf8("a\xF0\x9F\x98"), "a" + r);
  EXPECT_EQ(RepairUtf8(std::string("\0\xC2\0", 3)), std::string("\0", 1) + r + std::string("\0", 1));
}

TEST(Utf8, RepairAgreesWithTheValidatorOnRandomBytes) {
  std::mt19937 random(7);
  constexpr std::string_view kBytes =
      "\x41\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC2\xDF\xE0\xE1\xED\xEE\xEF\xF0\xF1\xF4\xF5";
  for (int i = 0; i < 200000; ++i) {
    std::string bytes;
    for (auto n = random() % 8; n > 0; --n) bytes.push_back(kBytes[random() % kBytes.size()]);
    const std::string repaired = RepairUtf8(bytes);
    ASSERT_TRUE(simdjson::validate_utf8(repaired));
    ASSERT_EQ(repaired == bytes, simdjson::validate_utf8(bytes));
  }
}

TEST(Utf8, AnIncompleteEndIsLeft) {
  for (const std::string_view held : {"\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xF4\x8F", "\xED\x9F"}) {
    std::string out;
    EXPECT_EQ(AppendRepaired(std::string("x\xFF").append(held), out), 2U);
    EXPECT_EQ(out, std::string("x").append(kReplacement));
  }
}

}  // namespace
}  // namespace sluice::text
