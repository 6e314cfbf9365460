#include "pipeline/try_data_plane.h"

#include <gtest/gtest.h>

#include <exception>
#include <thread>
#include <vector>

#include "comm/thread_world.h"

namespace sluice::pipeline {
namespace {

// Every rank reaches its neighbours and its lanes, and the transfers that follow are not disturbed.
TEST(TryDataPlane, ReachesEveryNeighbourOnce) {
  const parallel::Grid grid{3, 2};
  auto world = comm::MakeThreadWorld(grid.world(), std::chrono::seconds(20));
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < grid.world(); ++rank) {
    ranks.emplace_back([&, rank] {
      const auto lanes = world[rank]->Subgroup(grid.RanksOfStage(grid.StageOf(rank)));
      comm::Communicator* const groups[] = {lanes.get()};
      TryDataPlane(*world[rank], grid, rank, groups);
      EXPECT_GT(world[rank]->bytes_sent(), 0);
      EXPECT_EQ(world[rank]->bytes_sent(), world[rank]->bytes_received());
      EXPECT_EQ(lanes->bytes_sent(), lanes->bytes_received());
      lanes->Barrier("end");
      world[rank]->Barrier("end");
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

// A rank that never comes is an error of those that need it, and it is named.
TEST(TryDataPlane, ARankThatIsGoneIsNamed) {
  const parallel::Grid grid{2, 1};
  auto world = comm::MakeThreadWorld(grid.world(), std::chrono::milliseconds(200));
  try {
    TryDataPlane(*world[0], grid, 0, {});
    ADD_FAILURE() << "nobody was there";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("rank 1 did not send"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace sluice::pipeline
