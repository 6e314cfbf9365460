#include "bench/comm_figures.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>

#include "base/clock.h"
#include "comm/gloo_world.h"
#include "comm/on_all_ranks.h"
#include "comm/thread_world.h"

namespace sluice::bench {
namespace {

constexpr Duration kLimit = std::chrono::seconds(60);
constexpr uint64_t kThere = 1, kBack = 2;

using World = std::vector<std::unique_ptr<comm::Communicator>>;

World MakeWorld(const CommOptions& options) {
  if (!options.tcp) return comm::MakeThreadWorld(options.ranks, kLimit);
  World world(static_cast<size_t>(options.ranks));
  comm::LocalStore store;
  comm::OnAllRanks(options.ranks, [&](int rank) {
    world[rank] = comm::MakeGlooWorld(rank, options.ranks, store, comm::kLoopback, kLimit);
  });
  return world;
}

double Seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

CommFigure Hop(World& world, int64_t bytes, int repeats) {
  int64_t best = std::numeric_limits<int64_t>::max();
  comm::OnAllRanks(2, [&](int rank) {
    comm::Communicator& mine = *world[rank];
    std::vector<std::byte> out(static_cast<size_t>(bytes)), in(out.size());
    for (int i = 0; i <= repeats; ++i) {  // the first connects and is not counted
      const int64_t begin = NowNs();
      const auto arrives = mine.Receive(1 - rank, rank == 0 ? kBack : kThere, in);
      if (rank == 1) arrives->Wait();
      const auto leaves = mine.Send(1 - rank, rank == 0 ? kThere : kBack, out);
      if (rank == 0) arrives->Wait();
      leaves->Wait();
      if (rank == 0 && i > 0) best = std::min(best, NowNs() - begin);
    }
  });
  return {"hop", bytes, Seconds(best) / 2.0, static_cast<double>(bytes)};
}

CommFigure AllGather(World& world, int64_t bytes, int repeats) {
  const auto ranks = static_cast<int>(world.size());
  // The last rank's end and the first one's begin of every repeat.
  std::vector<std::atomic<int64_t>> begins(static_cast<size_t>(repeats) + 1), ends(begins.size());
  for (std::atomic<int64_t>& begin : begins) begin = std::numeric_limits<int64_t>::max();
  const auto keep = [](std::atomic<int64_t>& kept, int64_t value, bool least) {
    int64_t before = kept.load();
    while ((least ? value < before : value > before) && !kept.compare_exchange_weak(before, value)) {
    }
  };
  comm::OnAllRanks(ranks, [&](int rank) {
    comm::Communicator& mine = *world[rank];
    const std::vector<std::byte> part(static_cast<size_t>(bytes));
    std::vector<std::byte> all(part.size() * static_cast<size_t>(ranks));
    const std::vector<int64_t> sizes(static_cast<size_t>(ranks), bytes);
    for (size_t i = 0; i < begins.size(); ++i) {
      mine.Barrier("bench");
      keep(begins[i], NowNs(), true);
      mine.AllGather("bench", part, all, sizes);
      keep(ends[i], NowNs(), false);
    }
    mine.Barrier("bench");
  });
  int64_t best = std::numeric_limits<int64_t>::max();
  for (size_t i = 1; i < begins.size(); ++i) best = std::min(best, ends[i].load() - begins[i].load());
  return {"all-gather", bytes, Seconds(best), static_cast<double>(bytes) * (ranks - 1)};
}

}  // namespace

std::vector<CommFigure> MeasureComm(const CommOptions& options) {
  World world = MakeWorld(options);
  std::vector<CommFigure> figures;
  for (const int64_t bytes : options.bytes) figures.push_back(Hop(world, bytes, options.repeats));
  for (const int64_t bytes : options.bytes) figures.push_back(AllGather(world, bytes, options.repeats));
  comm::OnAllRanks(options.ranks, [&](int rank) { world[rank]->Barrier("end"); });
  return figures;
}

}  // namespace sluice::bench
