#include "comm/crc32c.h"

#include <gtest/gtest.h>

#include <boost/crc.hpp>
#include <random>
#include <string_view>
#include <vector>

namespace sluice::comm {
namespace {

TEST(Crc32c, IsTheOneOfRfc3720) {
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(std::string_view("123456789")))), 0xE3069283U);
  EXPECT_EQ(Crc32c(std::vector<std::byte>(32)), 0x8A9136AAU);
}

TEST(Crc32c, AgreesWithBoostForEveryLengthAndCut) {
  std::mt19937 random(3);
  for (size_t length = 0; length < 70; ++length) {
    std::vector<std::byte> bytes(length);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> boost_crc;
    boost_crc.process_bytes(bytes.data(), bytes.size());
    for (size_t cut = 0; cut <= length; ++cut) {
      const auto head = std::span<const std::byte>(bytes).first(cut);
      const auto tail = std::span<const std::byte>(bytes).subspan(cut);
      EXPECT_EQ(Crc32c(tail, Crc32c(head)), boost_crc.checksum()) << length << " cut at " << cut;
      EXPECT_EQ(PlainCrc32c(tail, PlainCrc32c(head)), boost_crc.checksum()) << length << " cut at " << cut;
    }
  }
}

}  // namespace
}  // namespace sluice::comm
