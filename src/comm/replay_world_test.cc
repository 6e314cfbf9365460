#include "comm/replay_world.h"

#include <gtest/gtest.h>

#include <numeric>

#include "comm/test_streams.h"
#include "comm/test_worlds.h"

namespace sluice::comm {
namespace {

// Rows of three bytes.
std::vector<std::byte> Rows(int first, int count) {
  std::vector<std::byte> rows;
  for (int i = 0; i < 3 * count; ++i) rows.push_back(std::byte(first + i));
  return rows;
}
std::vector<std::byte> operator+(std::vector<std::byte> a, const std::vector<std::byte>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(ReplayWorld, GathersItsOwnRowsInTheOthersPlaces) {
  StreamMemory streams;
  for (Memory* memory : {&HostMemory(), static_cast<Memory*>(&streams)}) {
    auto world = MakeReplayWorld(1, 4, *memory);
    const auto mine = Rows(1, 2);
    std::vector<std::byte> all(3 * (1 + 2 + 3 + 0));
    const std::vector<int64_t> bytes = {3, 6, 9, 0};
    world->AllGather("gather", mine, all, bytes);
    EXPECT_EQ(all, Rows(1, 1) + mine + mine + Rows(1, 1));
    EXPECT_EQ(world->bytes_sent(), 3 * 6);
    EXPECT_EQ(world->bytes_received(), 3 + 9);
  }
}

TEST(ReplayWorld, ExchangesWhatIsForItself) {
  auto world = MakeReplayWorld(1, 3);
  const std::vector<std::vector<std::byte>> out = {Rows(1, 3), Rows(50, 2), {}};
  std::vector<std::vector<std::byte>> in = {std::vector<std::byte>(3), std::vector<std::byte>(6),
                                            std::vector<std::byte>(9)};
  world->AllToAll("exchange", std::vector<std::span<const std::byte>>(out.begin(), out.end()),
                  std::vector<std::span<std::byte>>(in.begin(), in.end()));
  EXPECT_EQ(in[0], Rows(50, 1));
  EXPECT_EQ(in[1], Rows(50, 2));
  EXPECT_EQ(in[2], Rows(50, 2) + Rows(50, 1));
  EXPECT_EQ(world->bytes_sent(), 9);
  EXPECT_EQ(world->bytes_received(), 12);
}

TEST(ReplayWorld, HasSomethingForARankThatGivesNothing) {
  auto world = MakeReplayWorld(0, 2);
  const std::vector<std::vector<std::byte>> out = {{}, Rows(9, 1)};
  std::vector<std::vector<std::byte>> in = {{}, std::vector<std::byte>(6, std::byte{77})};
  const std::vector<std::span<std::byte>> receive(in.begin(), in.end());
  world->AllToAll("exchange", std::vector<std::span<const std::byte>>(out.begin(), out.end()), receive);
  EXPECT_EQ(in[1], Rows(9, 1) + Rows(9, 1));
  world->AllToAll("exchange", std::vector<std::span<const std::byte>>(2), receive);
  EXPECT_EQ(in[1], std::vector<std::byte>(6));
}

TEST(ReplayWorld, GroupsKeepTheirNamesAndEndTogether) {
  auto world = MakeReplayWorld(5, 8);
  const std::vector<int> members = {4, 5, 6, 7};
  auto lanes = world->Subgroup(members);
  EXPECT_EQ(lanes->rank(), 1);
  EXPECT_EQ(lanes->size(), 4);
  EXPECT_EQ(lanes->GlobalRank(3), 7);
  std::vector<std::byte> rows(10);
  world->Send(6, 1, rows)->Wait();
  world->Receive(4, 1, rows)->Wait();
  EXPECT_EQ(world->bytes_sent() + lanes->bytes_sent(), 10);
  world->Abort("enough");
  EXPECT_EQ(LostSentence([&] { lanes->Barrier("barrier"); }), "enough");
}

}  // namespace
}  // namespace sluice::comm
