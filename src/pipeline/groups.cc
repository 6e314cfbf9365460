#include "pipeline/groups.h"

#include <array>
#include <memory>
#include <vector>

#include "tensor/tensor.h"

namespace sluice::pipeline {
namespace {

// Between those of passes, which count from 0, and the collectives'.
constexpr uint64_t kTag = comm::kTagLimit - 1;
// Of a rank's part: short messages and long ones may travel in different ways.
constexpr std::array<int64_t, 2> kPartBytes = {16, int64_t{1} << 20};

void TryHop(comm::Communicator& world, const parallel::Grid& grid, int rank) {
  if (grid.stages == 1) return;
  const int stage = grid.StageOf(rank);
  const int upstream = grid.Rank((stage + grid.stages - 1) % grid.stages, grid.LaneOf(rank));
  const int downstream = grid.Rank((stage + 1) % grid.stages, grid.LaneOf(rank));
  const Buffer out(kPartBytes.back(), world.memory());
  const Buffer in(kPartBytes.back(), world.memory());
  for (const int64_t bytes : kPartBytes) {
    const auto size = static_cast<size_t>(bytes);
    const auto receive = world.Receive(upstream, kTag, {in.data(), size});
    const auto send = world.Send(downstream, kTag, {out.data(), size});
    const auto await = [&](comm::Transfer& transfer, int peer, trace::WaitKind kind) {
      const trace::ScopedWait wait(world.recorder(), "connect with the next stage", world.GlobalRank(peer),
                                   kind, bytes);
      transfer.Wait();
    };
    await(*receive, upstream, trace::WaitKind::kPeer);
    await(*send, downstream, trace::WaitKind::kSend);
  }
}

void TryGroup(comm::Communicator& group) {
  const int ranks = group.size();
  if (ranks == 1) return;
  const Buffer out(kPartBytes.back() * ranks, group.memory());
  const Buffer in(kPartBytes.back() * ranks, group.memory());
  for (const int64_t part : kPartBytes) {
    const auto size = static_cast<size_t>(part);
    group.AllGather("connect the lanes", {out.data(), size}, {in.data(), size * static_cast<size_t>(ranks)},
                    std::vector<int64_t>(static_cast<size_t>(ranks), part));
    std::vector<std::span<const std::byte>> send;
    std::vector<std::span<std::byte>> receive;
    for (int peer = 0; peer < ranks; ++peer) {
      send.emplace_back(out.data() + peer * part, size);
      receive.emplace_back(in.data() + peer * part, size);
    }
    group.AllToAll("connect the lanes", send, receive);
  }
}

}  // namespace

Groups MakeGroups(comm::Communicator& world, const parallel::Grid& grid, int rank) {
  return {world.Subgroup(grid.RanksOfStage(grid.StageOf(rank))),
          grid.attn_tp > 1 ? world.Subgroup(grid.RanksOfHeadGroup(rank)) : nullptr};
}

void TryDataPlane(comm::Communicator& world, const Groups& groups, const parallel::Grid& grid, int rank,
                  trace::Recorder& recorder) {
  world.SetRecorder(&recorder);
  TryHop(world, grid, rank);
  for (comm::Communicator* group : {groups.lanes.get(), groups.heads.get()}) {
    if (group == nullptr) continue;
    group->SetRecorder(&recorder);
    TryGroup(*group);
  }
}

}  // namespace sluice::pipeline
