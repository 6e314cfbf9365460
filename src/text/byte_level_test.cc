#include "text/byte_level.h"

#include <gtest/gtest.h>

namespace sluice::text {
namespace {

TEST(ByteLevel, KnownCharacters) {
  EXPECT_EQ(AlphabetCharacter(' '), "Ġ");
  EXPECT_EQ(AlphabetCharacter('\n'), "Ċ");
  EXPECT_EQ(AlphabetCharacter('\r'), "č");
  EXPECT_EQ(AlphabetCharacter('\t'), "ĉ");
  EXPECT_EQ(AlphabetCharacter(0), "Ā");
  EXPECT_EQ(AlphabetCharacter('A'), "A");
  EXPECT_EQ(AlphabetCharacter(0x7F), "ġ");
  EXPECT_EQ(AlphabetCharacter(0xA0), "ł");
  EXPECT_EQ(AlphabetCharacter(0xAD), "Ń");
  EXPECT_EQ(AlphabetCharacter(0xFF), "ÿ");
  EXPECT_EQ(ToAlphabet("中"), "ä¸Ń");
}

TEST(ByteLevel, AllBytesAndBack) {
  std::string bytes;
  for (int b = 0; b < 256; ++b) bytes.push_back(static_cast<char>(b));
  EXPECT_EQ(FromAlphabet(ToAlphabet(bytes)), bytes);
}

TEST(ByteLevel, OtherCharactersAreNotInTheAlphabet) {
  for (const char* text : {" ", "\n", "a b", "\u00AD", "\u0144", "中", "<｜User｜>"}) {
    EXPECT_EQ(FromAlphabet(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace sluice::text
