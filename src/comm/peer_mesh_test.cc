#include "comm/peer_mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/wire.h"
#include "comm/address.h"
#include "comm/socket_channel.h"
#include "comm/test_worlds.h"

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint16_t kNumber = PeerMesh::kFirstType;

// What one rank has heard so far.
class Heard final : public PeerMesh::Handler {
 public:
  void Hear(int peer, const Frame& frame) override { Add(fmt::format("{}: {}", peer, frame.step)); }
  void HearLeft(int peer) override { Add(fmt::format("{}: left", peer)); }
  void HearFailed(ErrorKind kind, const std::string& sentence) override {
    Add(fmt::format("{}, {}", kind == ErrorKind::kUsage ? "usage" : "other", sentence));
  }
  void HearLost(const std::string& sentence) override { Add(sentence); }
  std::vector<std::string> AfterAtLeast(size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, seconds(10), [&] { return lines_.size() >= count; }));
    return lines_;
  }

 private:
  void Add(std::string line) {
    std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

std::vector<std::unique_ptr<PeerMesh>> MakeMeshes(int size, LocalStore& store) {
  std::vector<std::unique_ptr<PeerMesh>> meshes(static_cast<size_t>(size));
  OnAllRanks(size, [&](int rank) {
    meshes[rank] = std::make_unique<PeerMesh>(rank, size, store, kLoopback, seconds(10));
  });
  return meshes;
}

TEST(PeerMeshTest, EveryRankReachesEveryOtherInOrderAndHearsItsEnd) {
  constexpr int kSize = 4;
  LocalStore store;
  std::vector<Heard> heard(kSize);  // the meshes' threads speak to it to their end
  auto meshes = MakeMeshes(kSize, store);
  for (int rank = 0; rank < kSize; ++rank) {
    if (rank % 2 == 0) meshes[rank]->Start(heard[rank]);
    for (int peer = 0; peer < kSize; ++peer) {
      for (uint64_t i = 0; i < 3 && peer != rank; ++i) {
        EXPECT_TRUE(meshes[rank]->Tell(peer, {kNumber, 10 * i + rank, 0, {}}));
      }
    }
  }
  for (int rank = 1; rank < kSize; rank += 2) meshes[rank]->Start(heard[rank]);
  for (int rank = 0; rank < kSize; ++rank) {
    const auto lines = heard[rank].AfterAtLeast(9);
    for (int peer = 0; peer < kSize; ++peer) {
      std::vector<std::string> own;
      for (const auto& line : lines) {
        if (line.starts_with(fmt::format("{}:", peer))) own.push_back(line);
      }
      std::vector<std::string> expected;
      for (int i = 0; i < 3 && peer != rank; ++i)
        expected.push_back(fmt::format("{}: {}", peer, 10 * i + peer));
      EXPECT_EQ(own, expected) << "at rank " << rank;
    }
  }
  meshes[2]->Close();
  for (const int rank : {0, 1, 3}) {
    EXPECT_THAT(heard[rank].AfterAtLeast(10).back(),
                HasSubstr(fmt::format("rank {} lost its data connection to rank 2: ", rank)));
  }
  EXPECT_EQ(heard[2].AfterAtLeast(9).size(), 9U);
  EXPECT_FALSE(meshes[2]->Tell(0, {kNumber, 1, 0, {}}));
  EXPECT_THAT(heard[2].AfterAtLeast(10).back(), HasSubstr("rank 2 lost its data connection to rank 0: "));
}

// Of one that has left nobody hears that it is lost, and there is nothing to tell it.
TEST(PeerMeshTest, ARankThatLeavesIsNotLost) {
  LocalStore store;
  std::vector<Heard> heard(3);
  auto meshes = MakeMeshes(3, store);
  for (int rank = 0; rank < 3; ++rank) meshes[rank]->Start(heard[rank]);
  meshes[1]->TellLeave();
  for (const int rank : {0, 2}) EXPECT_THAT(heard[rank].AfterAtLeast(1), ElementsAre("1: left"));
  meshes[1].reset();
  // The first of them may still be taken by what connects the two.
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(meshes[0]->Tell(1, {kNumber, 1, 0, {}}));
  meshes[2]->Tell(0, {kNumber, 5, 0, {}});
  EXPECT_THAT(heard[0].AfterAtLeast(2), ElementsAre("1: left", "2: 5"));
  EXPECT_THAT(heard[2].AfterAtLeast(1), ElementsAre("1: left"));
}

TEST(PeerMeshTest, AFailureIsToldToAllThatAreThere) {
  LocalStore store;
  std::vector<Heard> heard(3);
  auto meshes = MakeMeshes(3, store);
  for (int rank = 0; rank < 3; ++rank) meshes[rank]->Start(heard[rank]);
  meshes[1].reset();
  meshes[0]->TellFailed(ErrorKind::kUsage, "rank 0 has \"nothing\"");
  EXPECT_THAT(heard[2].AfterAtLeast(2), Contains("usage, rank 0 has \"nothing\""));
}

TEST(PeerMeshTest, ARankThatDoesNotComeIsNamed) {
  LocalStore store;
  std::thread one([&] {
    EXPECT_THAT(LostSentence([&] { PeerMesh mesh(1, 3, store, kLoopback, milliseconds(400)); }),
                HasSubstr("rank 2 did not connect to rank 1 within 400 ms"));
  });
  EXPECT_THAT(LostSentence([&] { PeerMesh mesh(0, 3, store, kLoopback, milliseconds(400)); }),
              HasSubstr("rank 2 did not connect to rank 0 within 400 ms"));
  one.join();
}

TEST(PeerMeshTest, AStrangerIsTurnedAway) {
  LocalStore store;
  std::thread stranger([&] {
    // Knows where rank 0 listens and says that it is rank 1, but not the number.
    std::vector<char> value = store.Get("mesh/0", seconds(10));
    WireReader reader(std::as_bytes(std::span(value)));
    const auto channel = TryConnect(ParseAddress(reader.GetString()), "rank 0", seconds(5));
    ASSERT_NE(channel, nullptr);
    channel->Send({1, 1, 0, std::vector<std::byte>(16)});
    LostSentence([&] { channel->Receive(seconds(10)); });
    // Only now the real one.
    const PeerMesh mesh(1, 2, store, kLoopback, seconds(10));
  });
  const PeerMesh mesh(0, 2, store, kLoopback, seconds(10));
  stranger.join();
}

// As gloo's: a host may be told the name of its network instead of its address there.
TEST(AddressTest, AnInterfaceStandsForItsAddress) {
  EXPECT_EQ(AddressOf("lo"), "127.0.0.1");
  EXPECT_EQ(AddressOf("127.0.0.2"), "127.0.0.2");
  EXPECT_EQ(AddressOf("host.example"), "host.example");
}

}  // namespace
}  // namespace sluice::comm
