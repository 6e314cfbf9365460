#include "pipeline/groups.h"

#include <gtest/gtest.h>

#include <exception>
#include <thread>
#include <vector>

#include "comm/thread_world.h"

namespace sluice::pipeline {
namespace {

// Every rank reaches its neighbours and its lanes, and the transfers that follow are not disturbed.
TEST(TryDataPlane, ReachesEveryNeighbour) {
  const parallel::Grid grid{3, 4, 2};
  auto world = comm::MakeThreadWorld(grid.world(), std::chrono::seconds(20));
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < grid.world(); ++rank) {
    ranks.emplace_back([&, rank] {
      const Groups groups = MakeGroups(*world[rank], grid, rank);
      EXPECT_EQ(groups.lanes->size(), 4);
      EXPECT_EQ(groups.heads->size(), 2);
      trace::Recorder recorder(rank);
      TryDataPlane(*world[rank], groups, grid, rank, recorder);
      for (comm::Communicator* each : {world[rank].get(), groups.lanes.get(), groups.heads.get()}) {
        EXPECT_GT(each->bytes_sent(), 0);
        EXPECT_EQ(each->bytes_sent(), each->bytes_received());
        each->SetRecorder(nullptr);
      }
      groups.lanes->Barrier("end");
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
    trace::Recorder recorder(0);
    TryDataPlane(*world[0], MakeGroups(*world[0], grid, 0), grid, 0, recorder);
    ADD_FAILURE() << "nobody was there";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("rank 1 did not send"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace sluice::pipeline
