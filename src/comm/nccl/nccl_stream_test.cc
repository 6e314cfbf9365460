#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/nccl/nccl_test_support.h"

// The stream's form between two GPUs: operations follow what is on the stream, what follows sees their bytes,
// and they occupy no more of the device than was asked for.
namespace sluice::comm {
namespace {

using std::chrono::seconds;

constexpr size_t kBytes = size_t{4} << 20;

class NcclStreamTest : public ::testing::TestWithParam<int> {};

std::vector<std::byte> Filled(size_t bytes, int value) {
  return std::vector<std::byte>(bytes, static_cast<std::byte>(value));
}

// The host waits only at the end: fill, all-gather, fill again, exchange, all on one stream.
TEST_P(NcclStreamTest, OperationsStandInTheirStream) {
  auto world = MakeNcclRanks(2, kLong);
  OnAllRanks(2, [&](int rank) {
    const DeviceScope scope(rank);
    const DeviceStream stream;
    const DeviceBytes mine(rank, kBytes);
    const DeviceBytes all(rank, 2 * kBytes);
    const DeviceBytes out(rank, 2 * kBytes);
    const DeviceBytes in(rank, 2 * kBytes);
    const std::vector<int64_t> equal = {kBytes, kBytes};
    const auto fill = [&](std::span<std::byte> bytes, int value) {
      CheckCuda(cudaMemsetAsync(bytes.data(), value, bytes.size(), stream.get()), "cudaMemsetAsync");
    };
    world[rank]->Connect();
    fill(mine.span(), 1 + rank);
    world[rank]->EnqueueAllGather(mine.span(), all.span(), equal, stream.get());
    fill(mine.span(), 0x77);  // after the gather has read it
    CheckCuda(cudaMemcpyAsync(out.span().data(), all.span().data(), 2 * kBytes, cudaMemcpyDeviceToDevice,
                              stream.get()),
              "cudaMemcpyAsync");
    const auto event = world[rank]->EnqueueEqualAllToAll(out.span(), in.span(), stream.get());
    world[rank]->Await("exchange", event);
    // all is 1 1 .. 2 2 on both ranks, so rank r gets the part with r + 1 from both.
    EXPECT_EQ(all.Get(), [] {
      auto expected = Filled(2 * kBytes, 1);
      std::fill(expected.begin() + kBytes, expected.end(), std::byte{2});
      return expected;
    }());
    EXPECT_EQ(in.Get(), Filled(2 * kBytes, 1 + rank));
    EXPECT_EQ(mine.Get(), Filled(kBytes, 0x77));
    world[rank]->Barrier("end");
  });
}

// Two groups of the same two ranks, one for each direction: a receive that waits holds up no send.
TEST_P(NcclStreamTest, DirectionsInGroupsOfTheirOwn) {
  auto world = MakeNcclRanks(2, kLong);
  OnAllRanks(2, [&](int rank) {
    const DeviceScope scope(rank);
    const auto there = world[rank]->Split(std::vector{0, 1});
    const auto back = world[rank]->Split(std::vector{0, 1});
    there->ConnectTransfers();
    back->ConnectTransfers();
    const DeviceStream receiving;
    const DeviceStream sending;
    const DeviceBytes out(rank, Part(rank, 1 - rank, 1000));
    const DeviceBytes in(rank, 1000);
    auto& outgoing = rank == 0 ? there : back;
    auto& incoming = rank == 0 ? back : there;
    const auto received = incoming->EnqueueReceive(in.span(), receiving.get());
    const auto sent = outgoing->EnqueueSend(out.span(), sending.get());
    incoming->Await("receive", received);
    outgoing->Await("send", sent);
    EXPECT_EQ(in.Get(), Part(1 - rank, rank, 1000));
    world[rank]->Barrier("end");
  });
}

// What a send and its receive would occupy, as the driver tells it.
unsigned WidestTransfer(const NcclConfig& config) {
  auto world = MakeNcclRanks(2, kLong, config);
  std::vector<unsigned> widest(2);
  OnAllRanks(2, [&](int rank) {
    const DeviceScope scope(rank);
    const DeviceStream stream;
    const DeviceBytes buffer(rank, size_t{64} << 20);
    world[rank]->Connect();
    cudaGraph_t graph = nullptr;
    const Captured captured = Capture(
        stream.get(),
        [&] {
          if (rank == 0) world[0]->EnqueueSend(buffer.span(), stream.get());
          if (rank == 1) world[1]->EnqueueReceive(buffer.span(), stream.get());
        },
        &graph);
    cudaGraphDestroy(graph);
    EXPECT_EQ(captured.kernels, 1);
    widest[rank] = captured.widest;
    world[rank]->Barrier("end");
  });
  EXPECT_EQ(widest[0], widest[1]);
  return widest[0];
}

TEST_P(NcclStreamTest, ChannelsAreCapped) {
  const unsigned free = WidestTransfer({});
  EXPECT_EQ(WidestTransfer({.max_channels = 1}), 1U);
  EXPECT_GE(WidestTransfer({.max_channels = 4}), 1U);
  EXPECT_LE(WidestTransfer({.max_channels = 4}), 4U);
  EXPECT_GT(free, 1U);
  RecordProperty("channels_of_nccl", static_cast<int>(free));
}

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
// Collectives of equal parts between windows run no kernel under CTA policy zero, and move the same bytes.
TEST_P(NcclStreamTest, CopyEnginesMoveEqualParts) {
  auto world = MakeNcclRanks(2, kLong, {.zero_cta = true});
  OnAllRanks(2, [&](int rank) {
    const DeviceScope scope(rank);
    const DeviceStream stream;
    const NcclMemory mine(kBytes);
    const NcclMemory all(2 * kBytes);
    const NcclMemory in(2 * kBytes);
    const auto window_mine = world[rank]->RegisterWindow(mine.bytes());
    const auto window_all = world[rank]->RegisterWindow(all.bytes());
    const auto window_in = world[rank]->RegisterWindow(in.bytes());
    ASSERT_NE(*window_mine->handle(), nullptr);
    ASSERT_NE(*window_all->handle(), nullptr);
    CheckCuda(cudaMemsetAsync(mine.bytes().data(), 1 + rank, kBytes, stream.get()), "cudaMemsetAsync");
    const std::vector<int64_t> equal = {kBytes, kBytes};
    const auto collectives = [&] {
      world[rank]->EnqueueAllGather(mine.bytes(), all.bytes(), equal, stream.get());
      return world[rank]->EnqueueEqualAllToAll(all.bytes(), in.bytes(), stream.get());
    };
    // Once plainly: NCCL sets its copy engines up on first use.
    world[rank]->Await("plain", collectives());
    cudaGraph_t graph = nullptr;
    const Captured captured = Capture(stream.get(), collectives, &graph);
    EXPECT_EQ(captured.kernels, 0);
    EXPECT_GT(captured.copies, 0);
    CheckCuda(cudaMemsetAsync(in.bytes().data(), 0x33, 2 * kBytes, stream.get()), "cudaMemsetAsync");
    cudaGraphExec_t run = nullptr;
    CheckCuda(cudaGraphInstantiate(&run, graph, 0), "cudaGraphInstantiate");
    // No rank may allocate or copy through the host while the other's stream waits for it.
    world[rank]->Barrier("instantiated");
    CheckCuda(cudaGraphLaunch(run, stream.get()), "cudaGraphLaunch");
    ASSERT_TRUE(Drains(stream.get()));
    world[rank]->Barrier("run");
    std::vector<std::byte> got(2 * kBytes);
    CheckCuda(cudaMemcpy(got.data(), in.bytes().data(), got.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    EXPECT_EQ(got, Filled(2 * kBytes, 1 + rank));
    world[rank]->Barrier("end");
    cudaGraphExecDestroy(run);
    cudaGraphDestroy(graph);
  });
}
#endif

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(NcclStreamTest);
INSTANTIATE_TEST_SUITE_P(Gpus, NcclStreamTest, ::testing::ValuesIn(TwoGpus()),
                         [](const auto&) { return std::string("2Gpus"); });

}  // namespace
}  // namespace sluice::comm
