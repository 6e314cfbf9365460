#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <thread>

#include "checkpoint/checkpoint.h"
#include "comm/replay_world.h"
#include "comm/thread_world.h"
#include "model/stage_model.h"
#include "ops/cpu/cpu_ops.h"

// A lane alone with a replay of itself against the same lane among others that compute the same rows: it
// exchanges the same bytes, call by call.
namespace sluice::layouts {
namespace {

constexpr int kLanes = 4;
constexpr const char* kModel =
    "random:tiny?dtype=fp8&layers=2&dense=1&experts=16&n_group=4&topk_group=2&seed=3";

// What a lane gave and took in each of its collectives.
struct Traffic {
  std::vector<std::pair<std::string, std::vector<int64_t>>> calls;
  int64_t sent = 0;
  int64_t received = 0;
  std::vector<std::byte> x;  // what the layers made of its rows
};

// Notes the sizes of collectives on their way to another communicator.
class Noting final : public comm::Communicator {
 public:
  Noting(comm::Communicator& inner, Traffic& traffic) : inner_(inner), traffic_(traffic) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  int GlobalRank(int rank) const override { return inner_.GlobalRank(rank); }
  std::unique_ptr<comm::Transfer> Send(int to, uint64_t tag, std::span<const std::byte> buffer) override {
    return inner_.Send(to, tag, buffer);
  }
  std::unique_ptr<comm::Transfer> Receive(int from, uint64_t tag, std::span<std::byte> buffer) override {
    return inner_.Receive(from, tag, buffer);
  }
  std::unique_ptr<comm::Communicator> Subgroup(std::span<const int> members) override {
    return inner_.Subgroup(members);
  }
  void Abort(std::string_view reason) override { inner_.Abort(reason); }
  void AllGather(std::string_view op, std::span<const std::byte> mine, std::span<std::byte> all,
                 std::span<const int64_t> bytes) override {
    traffic_.calls.emplace_back(op, std::vector<int64_t>(bytes.begin(), bytes.end()));
    inner_.AllGather(op, mine, all, bytes);
  }
  void AllToAll(std::string_view op, std::span<const std::span<const std::byte>> send,
                std::span<const std::span<std::byte>> receive) override {
    std::vector<int64_t> sizes;
    for (const auto& part : send) sizes.push_back(std::ssize(part));
    for (const auto& part : receive) sizes.push_back(std::ssize(part));
    traffic_.calls.emplace_back(op, std::move(sizes));
    inner_.AllToAll(op, send, receive);
  }

 private:
  comm::Communicator& inner_;
  Traffic& traffic_;
};

// One step, each of its rows the first token of a sequence of its own; every lane has the same rows. More
// than travel in fixed slots (model/moe.h): what is exchanged follows from the choices.
constexpr int kRows = 80;  // of a lane
Traffic RunLane(const checkpoint::Checkpoint& checkpoint, int lane, comm::Communicator& world) {
  ComputePool pool(0);
  const auto ops = ops::MakeCpuOps(ops::Numerics::kFp8, pool);
  model::StageSlice slice;
  slice.layers = {{0, checkpoint.config().num_hidden_layers}};
  slice.lane = lane;
  slice.lanes = kLanes;
  slice.expert_owners = kLanes;
  step::Step step;
  for (int row = 0; row < kRows * kLanes; ++row) {
    step::StepSequence& sequence = step.sequences.emplace_back();
    sequence.sequence = static_cast<uint64_t>(row);
    sequence.tokens = {row / kLanes};
    sequence.pages = {row};
  }
  model::StageModel stage(checkpoint.config(), slice, model::LoadStage(checkpoint, *ops, slice),
                          ops::CacheFormat::kFp8, kRows * kLanes);
  Traffic traffic;
  Noting noting(world, traffic);
  Arena arena;
  const model::Pass pass(step, noting, nullptr, parallel::SplitMode::kInterleave, *ops, arena);
  const Tensor x = pass.NewActivation(pass.rows(), stage.hidden_size());
  EXPECT_EQ(x.rows, kRows);
  for (int64_t row = 0; row < x.rows; ++row) {
    for (int64_t i = 0; i < x.cols; ++i)
      StoreFloat(x, row, i, static_cast<float>((row + 3) * (i + row * row) % 17) - 8.0F);
  }
  stage.Layers(pass, 0, x);
  traffic.sent = world.bytes_sent();
  traffic.received = world.bytes_received();
  traffic.x.assign(static_cast<std::byte*>(x.data), static_cast<std::byte*>(x.data) + x.bytes());
  return traffic;
}

TEST(Replay, ALaneAloneExchangesTheBytesOfALaneAmongItsLike) {
  const auto checkpoint = checkpoint::Checkpoint::Open(kModel);
  std::vector<Traffic> real(kLanes);
  auto world = comm::MakeThreadWorld(kLanes, std::chrono::seconds(60));
  std::vector<std::thread> lanes;
  for (int lane = 0; lane < kLanes; ++lane) {
    lanes.emplace_back([&, lane] { real[lane] = RunLane(*checkpoint, lane, *world[lane]); });
  }
  for (std::thread& lane : lanes) lane.join();
  for (int lane = 0; lane < kLanes; ++lane) {
    const Traffic replayed = RunLane(*checkpoint, lane, *comm::MakeReplayWorld(lane, kLanes));
    EXPECT_EQ(replayed.calls, real[lane].calls) << "lane " << lane;
    EXPECT_EQ(replayed.sent, real[lane].sent) << "lane " << lane;
    EXPECT_EQ(replayed.received, real[lane].received) << "lane " << lane;
    EXPECT_GT(replayed.received, 0);
    EXPECT_EQ(real[lane].x, real[0].x);  // they do compute the same rows
  }
}

}  // namespace
}  // namespace sluice::layouts
