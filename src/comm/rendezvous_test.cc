#include "comm/rendezvous.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "comm/join_frames.h"
#include "comm/test_worlds.h"

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

const JobSecret kJobSecret("0123456789abcdef-test", "the test");

Hello Of(int rank) { return {rank, 3, "build-1", "pp 1 cp 3"}; }

// A whole start-up of `rank`; the channel must live until the controller has it.
std::unique_ptr<Channel> Start(const Address& address, int rank) {
  auto channel = Join(address, Of(rank), kJobSecret, seconds(10));
  SayConnected(*channel);
  return channel;
}

std::string Refusal(const Address& address, const Hello& hello) {
  try {
    Join(address, hello, kJobSecret, seconds(10));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "the controller refused nothing";
  return "";
}

TEST(RendezvousTest, ChannelsComeInRankOrder) {
  Rendezvous rendezvous(kAnyPort, Of(-1), kJobSecret);
  std::vector<std::future<std::unique_ptr<Channel>>> ranks;
  for (int rank = 2; rank >= 0; --rank) {
    ranks.push_back(std::async(std::launch::async, [&, rank] {
      auto channel = Start(rendezvous.address(), rank);
      channel->Send({1, static_cast<uint64_t>(rank), 0, {}});
      return channel;
    }));
  }
  const auto channels = rendezvous.Accept(seconds(10));
  ASSERT_EQ(channels.size(), 3U);
  for (uint64_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(channels[rank]->Receive(seconds(5))->step, rank);
    EXPECT_EQ(channels[rank]->peer(), fmt::format("rank {}", rank));
  }
}

TEST(RendezvousTest, ARankMayComeBeforeTheController) {
  const auto path = fmt::format("unix:{}sluice_early_{}.sock", ::testing::TempDir(), getpid());
  auto rank = std::async(std::launch::async, [&] {
    auto channel = Join(ParseAddress(path), {0, 1, "b", "j"}, kJobSecret, seconds(10));
    SayConnected(*channel);
    return channel;
  });
  std::this_thread::sleep_for(milliseconds(150));
  Rendezvous rendezvous(ParseAddress(path), {-1, 1, "b", "j"}, kJobSecret);
  EXPECT_EQ(rendezvous.Accept(seconds(10)).size(), 1U);
}

TEST(RendezvousTest, StrangersAreRefusedByNameAndTheJobStillStarts) {
  Rendezvous rendezvous(kAnyPort, Of(-1), kJobSecret);
  auto accepted = std::async(std::launch::async, [&] { return rendezvous.Accept(seconds(10)); });
  const Address& address = rendezvous.address();

  EXPECT_THAT(Refusal(address, {1, 8, "build-1", "pp 1 cp 3"}),
              HasSubstr("rank 1 was started for a job of 8 ranks, this job has 3"));
  EXPECT_THAT(Refusal(address, {3, 3, "build-1", "pp 1 cp 3"}),
              HasSubstr("rank 3 is not one of this job's ranks 0 to 2"));
  EXPECT_THAT(Refusal(address, {-1, 3, "build-1", "pp 1 cp 3"}), HasSubstr("rank -1 is not one of"));
  EXPECT_THAT(Refusal(address, {1, 3, "build-2", "pp 1 cp 3"}),
              HasSubstr("rank 1 runs build \"build-2\", the controller \"build-1\""));
  EXPECT_THAT(Refusal(address, {1, 3, "build-1", "pp 3 cp 1"}),
              HasSubstr("rank 1 was started with pp 3, cp 1, the controller with pp 1, cp 3"));

  const auto first = Join(address, Of(1), kJobSecret, seconds(10));
  EXPECT_THAT(Refusal(address, Of(1)),
              HasSubstr("rank 1 has joined already; do two nodes have the same --node-rank?"));
  // Neither a connection that says something else nor one that says nothing stops the others.
  const auto silent = TryConnect(address, "the controller", seconds(5));
  const auto confused = TryConnect(address, "the controller", seconds(5));
  EXPECT_EQ(TypeOf(*confused->Receive(seconds(5))), JoinFrame::kChallenge);
  confused->Send({1, 0, 0, {}});
  LostSentence([&] { confused->Receive(seconds(5)); });

  SayConnected(*first);
  const auto zero = Start(address, 0);
  const auto two = Start(address, 2);
  EXPECT_EQ(accepted.get().size(), 3U);
}

TEST(RendezvousTest, MissingRanksAreNamed) {
  Rendezvous rendezvous(kAnyPort, Of(-1), kJobSecret);
  auto joined = std::async(std::launch::async,
                           [&] { return Join(rendezvous.address(), Of(1), kJobSecret, seconds(10)); });
  std::string sentence;
  const double waited =
      SecondsOf([&] { sentence = LostSentence([&] { rendezvous.Accept(milliseconds(500)); }); });
  EXPECT_THAT(sentence, HasSubstr("these of the job's 3 ranks have not joined: 0, 2"));
  EXPECT_THAT(sentence, HasSubstr("these have joined but are not connected: 1"));
  EXPECT_LT(waited, 2.0);
}

TEST(RendezvousTest, ARankLostWhileJoiningIsNamedAtOnce) {
  Rendezvous rendezvous(kAnyPort, Of(-1), kJobSecret);
  auto other = std::async(std::launch::async, [&] {
    auto channel = Join(rendezvous.address(), Of(0), kJobSecret, seconds(10));
    JoinedStore store(*channel);
    // Waits for a key of the rank that is lost, and learns of the end by its closed connection.
    LostSentence([&] { store.Get("address of 2", seconds(10)); });
  });
  auto lost = std::async(std::launch::async,
                         [&] { Join(rendezvous.address(), Of(2), kJobSecret, seconds(10)).reset(); });
  std::string sentence;
  const double waited = SecondsOf([&] { sentence = LostSentence([&] { rendezvous.Accept(seconds(10)); }); });
  EXPECT_THAT(sentence, HasSubstr("rank 2 was lost while joining: rank 2 closed the control connection"));
  EXPECT_LT(waited, 2.0);
}

TEST(RendezvousTest, KeysAreExchangedWhicheverSideComesFirst) {
  Rendezvous rendezvous(kAnyPort, {-1, 2, "b", "j"}, kJobSecret);
  auto accepted = std::async(std::launch::async, [&] { return rendezvous.Accept(seconds(10)); });
  OnAllRanks(2, [&](int rank) {
    auto channel = Join(rendezvous.address(), {rank, 2, "b", "j"}, kJobSecret, seconds(10));
    JoinedStore store(*channel);
    const auto key = [](int of, int round) { return fmt::format("{}/{}", of, round); };
    for (int round = 0; round < 20; ++round) {
      if (round % 2 == rank) std::this_thread::sleep_for(milliseconds(5));
      store.Set(key(rank, round), {static_cast<char>('a' + rank), static_cast<char>(round)});
      EXPECT_EQ(store.Get(key(1 - rank, round), seconds(5)),
                (std::vector<char>{static_cast<char>('b' - rank), static_cast<char>(round)}));
    }
    EXPECT_THAT(LostSentence([&] { store.Get("never", milliseconds(100)); }),
                HasSubstr("nobody has set \"never\""));
    SayConnected(*channel);
  });
  EXPECT_EQ(accepted.get().size(), 2U);
}

TEST(RendezvousTest, JoiningNobodyEndsInTime) {
  const auto nobody = fmt::format("unix:{}sluice_nobody_{}.sock", ::testing::TempDir(), getpid());
  const double waited = SecondsOf([&] {
    try {
      Join(ParseAddress(nobody), Of(1), kJobSecret, milliseconds(300));
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kNetwork);
      EXPECT_THAT(error.what(), HasSubstr("rank 1 found no controller at unix:"));
    }
  });
  EXPECT_LT(waited, 2.0);
}

}  // namespace
}  // namespace sluice::comm
