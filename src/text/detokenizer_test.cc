#include "text/detokenizer.h"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <random>

#include "text/byte_tokenizer.h"
#include "text/test_support.h"

namespace sluice::text {
namespace {

constexpr int32_t kFirstByte = 7;  // of the made-up tokenizer

class Detokenizer : public ::testing::Test {
 protected:
  Detokenizer() : tokenizer_(Tokenizer::Load(ScratchFile(ByteTokenizerJson(300)).path())) {}

  // The pieces that the bytes, one token each, come out as; the last one is Finish's.
  std::vector<std::string> Pieces(std::string_view bytes) const {
    IncrementalDetokenizer detokenizer(*tokenizer_, false);
    std::vector<std::string> pieces;
    for (const char byte : bytes)
      pieces.push_back(detokenizer.Push(kFirstByte + static_cast<unsigned char>(byte)));
    pieces.push_back(detokenizer.Finish());
    return pieces;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

using Strings = std::vector<std::string>;

TEST_F(Detokenizer, HoldsACharacterUntilItIsWhole) {
  EXPECT_EQ(Pieces("aé😀z"), (Strings{"a", "", "é", "", "", "", "😀", "z", ""}));
}

TEST_F(Detokenizer, InvalidBytesComeOutAsSoonAsTheyAreKnown) {
  EXPECT_EQ(Pieces("\xFFx"), (Strings{"\uFFFD", "x", ""}));
  EXPECT_EQ(Pieces("\xE4\xB8x"), (Strings{"", "", "\uFFFDx", ""}));
  EXPECT_EQ(Pieces("\xE4\xE4\xB8\xAD"), (Strings{"", "\uFFFD", "", "中", ""}));
  EXPECT_EQ(Pieces("\xED\xA0\x80"), (Strings{"", "\uFFFD\uFFFD", "\uFFFD", ""}));
}

TEST_F(Detokenizer, TheEndIsOneReplacement) {
  EXPECT_EQ(Pieces("\xF0\x9F\x98"), (Strings{"", "", "", "\uFFFD"}));
  IncrementalDetokenizer detokenizer(*tokenizer_, false);
  detokenizer.Push(kFirstByte + 0xF0);
  EXPECT_EQ(detokenizer.Finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.Finish(), "");
  EXPECT_EQ(detokenizer.Push(kFirstByte + 'a'), "a");
}

TEST_F(Detokenizer, SpecialTokensAreTextOrLeftOut) {
  IncrementalDetokenizer keeps(*tokenizer_, false);
  IncrementalDetokenizer skips(*tokenizer_, true);
  EXPECT_EQ(keeps.Push(1), "<｜end▁of▁sentence｜>");
  EXPECT_EQ(skips.Push(1), "");
  EXPECT_EQ(skips.Push(6), "｜DSML｜") << "added, but not special";
  EXPECT_EQ(skips.Push(-3), "");
  EXPECT_EQ(skips.Push(1 << 20), "");
}

// A special token in the middle of a character: left out, the character goes on; kept, it breaks it.
TEST_F(Detokenizer, ASpecialTokenInsideACharacter) {
  const std::vector<int32_t> ids = {kFirstByte + 0xC3, 1, kFirstByte + 0xA9};
  for (const bool skip : {false, true}) {
    IncrementalDetokenizer detokenizer(*tokenizer_, skip);
    std::string text;
    for (const int32_t id : ids) text += detokenizer.Push(id);
    text += detokenizer.Finish();
    EXPECT_EQ(text, skip ? "é" : "\uFFFD<｜end▁of▁sentence｜>\uFFFD");
    EXPECT_EQ(text, tokenizer_->Decode(ids, skip));
  }
}

TEST_F(Detokenizer, PiecesAreValidAndTogetherEqualDecode) {
  std::mt19937 random(3);
  for (int round = 0; round < 20000; ++round) {
    const bool skip = random() % 2 == 0;
    std::vector<int32_t> ids(random() % 12);
    for (int32_t& id : ids) {
      // Mostly lead and continuation bytes.
      id = random() % 4 == 0 ? static_cast<int32_t>(random() % 310) - 5
                             : kFirstByte + 0x80 + static_cast<int32_t>(random() % 0x80);
    }
    IncrementalDetokenizer detokenizer(*tokenizer_, skip);
    std::string text;
    for (const int32_t id : ids) {
      const std::string piece = detokenizer.Push(id);
      ASSERT_TRUE(simdjson::validate_utf8(piece));
      text += piece;
    }
    text += detokenizer.Finish();
    ASSERT_EQ(text, tokenizer_->Decode(ids, skip));
  }
}

}  // namespace
}  // namespace sluice::text
