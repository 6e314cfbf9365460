#include "comm/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/test_worlds.h"

namespace sluice::comm {
namespace {

using ::testing::HasSubstr;

Frame Example() { return {7, 0x0102030405060708, 9, {std::byte{'a'}, std::byte{'b'}}, 0x1112131415161718}; }

std::string Undecodable(const std::vector<std::byte>& bytes) {
  return LostSentence([&] { DecodeFrame(bytes); });
}

// Bytes written down by hand; the checksum from the bitwise definition of CRC-32C.
TEST(FrameTest, HasTheDocumentedBytes) {
  const std::vector<int> expected = {'S',  'L',  'C',  'F',  2,    0,    7,    0,    8, 7, 6, 5, 4, 3, 2, 1,
                                     0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 9, 0, 0, 0, 2, 0, 0, 0};
  const auto bytes = EncodeFrame(Example());
  ASSERT_EQ(bytes.size(), 38U);
  uint32_t crc = 0xffffffff;
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(static_cast<int>(bytes[i]), expected[i]) << "byte " << i;
  std::vector<size_t> order = {36, 37};  // the payload, then the header
  for (size_t i = 0; i < 32; ++i) order.push_back(i);
  for (const size_t i : order) {
    crc ^= static_cast<uint32_t>(bytes[i]);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78U : 0U);
  }
  crc = ~crc;
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(static_cast<uint32_t>(bytes[32 + i]), crc >> (8 * i) & 0xff);
  EXPECT_EQ(static_cast<char>(bytes[36]), 'a');
}

TEST(FrameTest, ReadsBackWhatItWrote) {
  EXPECT_EQ(DecodeFrame(EncodeFrame(Example())), Example());
  Frame large{65535, ~uint64_t{0}, ~uint32_t{0}, std::vector<std::byte>(100000, std::byte{5}), ~uint64_t{0}};
  EXPECT_EQ(DecodeFrame(EncodeFrame(large)), large);
  EXPECT_EQ(DecodeFrame(EncodeFrame({})), Frame{});
}

TEST(FrameTest, EveryCutIsRefused) {
  const auto bytes = EncodeFrame(Example());
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THAT(Undecodable({bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length)}),
                HasSubstr("cut short"));
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_EQ(Undecodable(longer), "a control frame of type 7 has 1 bytes too many");
}

TEST(FrameTest, EveryFlippedBitIsRefused) {
  const auto bytes = EncodeFrame(Example());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto flipped = bytes;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_NE(Undecodable(flipped), "") << "bit " << bit;
  }
}

TEST(FrameTest, SentencesSayWhatWasFoundAndExpected) {
  auto bytes = EncodeFrame(Example());
  bytes[0] = std::byte{'H'};
  EXPECT_EQ(Undecodable(bytes),
            "a control frame begins with 0x46434c48 instead of 0x46434c53; is the peer a sluice rank?");
  bytes = EncodeFrame(Example());
  bytes[4] = std::byte{3};
  EXPECT_EQ(Undecodable(bytes),
            "a control frame has layout version 3, this build speaks 2; run one build everywhere");
  bytes = EncodeFrame(Example());
  bytes[31] = std::byte{0x10};
  EXPECT_EQ(Undecodable(bytes),
            "a control frame of type 7 announces 268435458 bytes, the limit is 268435456");
  EXPECT_EQ(LostSentence([] { DecodeFrame(EncodeFrame(Example()), 1); }),
            "a control frame of type 7 announces 2 bytes, the limit is 1");
  bytes = EncodeFrame(Example());
  bytes[37] = std::byte{'c'};
  EXPECT_THAT(Undecodable(bytes), HasSubstr("a control frame of type 7 with 2 bytes has checksum 0x"));
}

TEST(FrameTest, APayloadBeyondTheLimitIsNotEncoded) {
  Frame frame;
  frame.payload = std::vector<std::byte>(kMaxFramePayload + 1);
  EXPECT_THROW(EncodeFrame(frame), Error);
}

}  // namespace
}  // namespace sluice::comm
