#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cstring>
#include <deque>
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "comm/thread_world.h"
#include "gpu_run.h"
#include "layouts/counting_ops.h"
#include "ops/cuda/device.h"
#include "ops/cuda/stream.h"

// Rows between ranks on one GPU, for which the receiver's stream waits while they are computed.
namespace sluice::gpu {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr Duration kLong = std::chrono::seconds(20);
// Rows of a chunk of 8,192 over 8 lanes.
constexpr int64_t kBytes = int64_t{1024} * 7168 * 2;

class GpuHopTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasHopper()) GTEST_SKIP() << "no Hopper GPU";
  }
};

// Two buffers on either side, many steps: nothing arrives late, early or over what is still in use.
TEST_F(GpuHopTest, RowsArriveWholeWhileTheHostsRunAhead) {
  constexpr int kSteps = 60;
  Memory& memory = ops::cuda::DeviceMemory(0);
  auto world = comm::MakeThreadWorld(2, kLong, memory);
  std::vector<Buffer> patterns;
  for (int value = 0; value < 8; ++value) {
    const std::vector<std::byte> bytes(kBytes, std::byte(value * 31 + 1));
    memory.Copy(bytes.data(), patterns.emplace_back(kBytes, memory).data(), kBytes);
  }
  std::vector<Buffer> out, in, seen;
  for (int i = 0; i < 2; ++i) out.emplace_back(kBytes, memory), in.emplace_back(kBytes, memory);
  for (int step = 0; step < kSteps; ++step) seen.emplace_back(kBytes, memory);
  const auto span = [](const Buffer& buffer) {
    return std::span(buffer.data(), static_cast<size_t>(kBytes));
  };

  ops::cuda::Stream sender, receiver;
  const auto stage = [&](int rank) {
    std::vector<std::unique_ptr<comm::Transfer>> transfers;
    for (int step = 0; step < kSteps; ++step) {
      const auto tag = static_cast<uint64_t>(step);
      if (rank == 0) {
        const Buffer& rows = out[step % 2];
        if (step >= 2) transfers[step - 2]->Wait();  // the buffer is used again
        sender.Copy(patterns[step % 8].data(), rows.data(), kBytes);
        transfers.push_back(world[0]->SendOn(sender, 1, tag, span(rows)));
      } else {
        const Buffer& rows = in[step % 2];
        transfers.push_back(world[1]->ReceiveOn(receiver, 0, tag, span(rows)));
        EXPECT_TRUE(transfers.back()->WaitOn(receiver));
        receiver.Copy(rows.data(), seen[step].data(), kBytes);
      }
    }
    for (const auto& transfer : transfers) transfer->Wait();
  };
  std::thread other([&] { stage(0); });
  stage(1);
  other.join();
  receiver.Finish();
  std::vector<std::byte> host(kBytes);
  for (int step = 0; step < kSteps; ++step) {
    memory.Copy(seen[step].data(), host.data(), kBytes);
    const std::vector<std::byte> expected(kBytes, std::byte(step % 8 * 31 + 1));
    EXPECT_EQ(std::memcmp(host.data(), expected.data(), kBytes), 0) << "step " << step;
  }
}

// Lanes of two stages, whose hosts put many small steps on their streams without a pause: work of a stream
// must not come to stand behind another's wait for it, whatever queues the driver makes of them.
TEST_F(GpuHopTest, ManyStreamsThatWaitForOneAnotherGetDone) {
  constexpr int kLanes = 4;
  constexpr int kSteps = 3000;
  constexpr int64_t kSmall = 4096;
  Memory& memory = ops::cuda::DeviceMemory(0);
  auto world = comm::MakeThreadWorld(2 * kLanes, kLong, memory);
  std::barrier meet_first(kLanes), meet_second(kLanes);
  std::atomic<int> taken = 0;
  const auto rank = [&](int mine) {
    const int stage = mine / kLanes;
    ops::cuda::Stream stream;
    Buffer rows(4 * kSmall, memory), scratch(kSmall, memory);
    std::deque<std::unique_ptr<comm::Transfer>> under_way;
    for (int step = 0; step < kSteps; ++step) {
      const auto tag = static_cast<uint64_t>(step);
      const std::span buffer(rows.data() + step % 4 * kSmall, static_cast<size_t>(kSmall));
      if (under_way.size() == 3) {
        under_way.front()->Wait();
        under_way.pop_front();
      }
      if (stage == 1) {
        auto receive = world[mine]->ReceiveOn(stream, mine - kLanes, tag, buffer);
        EXPECT_TRUE(receive->WaitOn(stream));
        under_way.push_back(std::move(receive));
      }
      for (int op = 0; op < 6; ++op) stream.Copy(buffer.data(), scratch.data(), kSmall);
      // A collective: the lanes' hosts meet with their streams done.
      if (stage == 1) under_way.back()->Wait();
      stream.Finish();
      (stage == 0 ? meet_first : meet_second).arrive_and_wait();
      stream.Copy(scratch.data(), buffer.data(), kSmall);
      if (stage == 0) under_way.push_back(world[mine]->SendOn(stream, mine + kLanes, tag, buffer));
      taken += stage;
    }
    for (const auto& transfer : under_way) transfer->Wait();
  };
  std::vector<std::thread> ranks;
  for (int mine = 0; mine < 2 * kLanes; ++mine) ranks.emplace_back(rank, mine);
  for (std::thread& thread : ranks) thread.join();
  EXPECT_EQ(taken, kLanes * kSteps);
}

// Three stages in each of which something goes wrong at some moment, the others' streams waiting. What comes
// of it is the verdict, soon, and a process that goes on.
std::string VerdictWhen(int rank, const std::string& op, int at_call, bool throws) {
  GpuRun run{
      "random:tiny?dtype=fp8&layers=6&hidden=512&heads=8&index_heads=32&topk=128&experts=8&n_group=2&topk_"
      "group=1"};
  run.stages = 3;
  run.chunk = 64;
  run.wait_limit = std::chrono::seconds(1);
  layouts::OpLog log;
  std::atomic<int> calls = 0;
  log.on_call = [&](const std::string& called) {
    if (called != op || ++calls != at_call) return;
    if (throws) throw std::runtime_error("struck");
    std::this_thread::sleep_for(std::chrono::seconds(4));  // beyond the limit
  };
  run.probes.wrap_ops = [&](int wrapped, std::unique_ptr<ops::Ops> ops) -> std::unique_ptr<ops::Ops> {
    if (wrapped != rank) return ops;
    return std::make_unique<layouts::CountingOps>(std::move(ops), log);
  };
  try {
    RunPrompts(run, {Prompt(701, 3, 1024)}, 2, false);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kRankLost);
    return error.what();
  }
  return "nothing was lost";
}

TEST_F(GpuHopTest, ARankThatStopsIsNamedWhileHostsWaitForItsRows) {
  EXPECT_THAT(VerdictWhen(0, "Embed", 5, false), StartsWith("rank 0 "));
  EXPECT_THAT(VerdictWhen(1, "SparseAttention", 7, false), StartsWith("rank 1 "));
}

TEST_F(GpuHopTest, ARankThatFailsIsNamedThoughStreamsWait) {
  EXPECT_THAT(VerdictWhen(0, "Embed", 5, true), AllOf(StartsWith("rank 0 "), HasSubstr("failed: struck")));
  // Its own stream waits for rows then.
  EXPECT_THAT(VerdictWhen(1, "RmsNorm", 7, true), AllOf(StartsWith("rank 1 "), HasSubstr("failed: struck")));
}

}  // namespace
}  // namespace sluice::gpu
