#include "comm/hello.h"

#include <gtest/gtest.h>

#include "comm/test_worlds.h"

namespace sluice::comm {
namespace {

const Hello kExpected{-1, 4, "sluice 1", "pp 2 cp 2 layers [30,31] checkpoint 00000000000000aa"};

std::string ObjectionTo(const std::string& description) {
  return Objection({3, 4, "sluice 1", description}, kExpected);
}

TEST(HelloTest, ReadsBackWhatItWrote) {
  const Hello hello{3, 4, "sluice 1", "pp 2"};
  const auto bytes = EncodeHello(hello);
  const Hello back = DecodeHello(bytes);
  EXPECT_EQ(back.rank, 3);
  EXPECT_EQ(back.world, 4);
  EXPECT_EQ(back.build, "sluice 1");
  EXPECT_EQ(back.description, "pp 2");
  for (size_t length = 0; length < bytes.size(); ++length) {
    LostSentence([&] { DecodeHello(std::span(bytes).first(length)); });
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  LostSentence([&] { DecodeHello(longer); });
}

TEST(HelloTest, TheSameJobIsWelcome) { EXPECT_EQ(ObjectionTo(kExpected.description), ""); }

TEST(HelloTest, WhatDiffersIsNamedAndNothingElse) {
  EXPECT_EQ(Objection({3, 4, "sluice 2", "pp 7"}, kExpected),
            "rank 3 runs build \"sluice 2\", the controller \"sluice 1\"; install one build on every node");
  EXPECT_EQ(
      ObjectionTo("pp 3 cp 2 layers [30,31] checkpoint 00000000000000aa"),
      "rank 3 was started with pp 3, the controller with pp 2; give every node the same model and arguments");
  EXPECT_EQ(ObjectionTo("pp 2 cp 2 layers [31,30] checkpoint 00000000000000ab"),
            "rank 3 was started with layers [31,30], a model with fingerprint 00000000000000ab, the "
            "controller with "
            "layers [30,31], a model with fingerprint 00000000000000aa; give every node the same model and "
            "arguments");
  EXPECT_EQ(ObjectionTo("pp 2 cp 2 atp 2 layers [30,31] checkpoint 00000000000000aa"),
            "rank 3 was started with atp 2, the controller with no atp; give every node the same model and "
            "arguments");
  EXPECT_EQ(
      ObjectionTo("pp 2 cp 2 checkpoint 00000000000000aa"),
      "rank 3 was started with no layers, the controller with layers [30,31]; give every node the same model "
      "and arguments");
}

TEST(HelloTest, DescriptionsThatAreNotPairsOrStandInAnotherOrderAreShownWhole) {
  EXPECT_EQ(
      ObjectionTo("pp 2 cp"),
      "rank 3 was started for the job \"pp 2 cp\", the controller for \"pp 2 cp 2 layers [30,31] checkpoint "
      "00000000000000aa\"; give every node the same model and arguments");
  EXPECT_NE(ObjectionTo("cp 2 pp 2 layers [30,31] checkpoint 00000000000000aa"), "");
}

}  // namespace
}  // namespace sluice::comm
