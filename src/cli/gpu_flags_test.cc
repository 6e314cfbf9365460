#include "cli/gpu_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"

namespace sluice::cli {
namespace {

using engine::DataPlane;
using testing::AllOf;
using testing::HasSubstr;

LayoutFlags Flags(const std::function<void(LayoutFlags&)>& set = {}) {
  LayoutFlags flags;
  flags.ops = "cuda";
  if (set) set(flags);
  return flags;
}

std::string Refused(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "it works";
}
std::string Refused(const LayoutFlags& flags, int64_t world, int64_t visible) {
  return Refused([&] { PlaceOnGpus(flags, world, visible); });
}

void ExpectPlaced(const LayoutFlags& flags, int64_t world, int64_t visible, bool processes, int step,
                  DataPlane plane) {
  const GpuPlacement placed = PlaceOnGpus(flags, world, visible);
  EXPECT_EQ(placed.processes, processes);
  EXPECT_EQ(placed.step, step);
  EXPECT_EQ(placed.plane, plane);
}

TEST(GpuFlags, NothingSaidIsAProcessForEachGpuWhereEveryRankHasOne) {
  ExpectPlaced(Flags(), 4, 4, true, 1, DataPlane::kNccl);
  ExpectPlaced(Flags(), 4, 8, true, 1, DataPlane::kNccl);
  ExpectPlaced(Flags([](auto& f) { f.base_gpu_id = 4; }), 4, 8, true, 1, DataPlane::kNccl);
  ExpectPlaced(Flags([](auto& f) { f.gpu_id_step = 2; }), 4, 7, true, 2, DataPlane::kNccl);
}

TEST(GpuFlags, NothingSaidIsThreadsForOneRankAndOnTheOnlyGpu) {
  ExpectPlaced(Flags(), 1, 8, false, 0, DataPlane::kHost);
  ExpectPlaced(Flags(), 4, 1, false, 0, DataPlane::kHost);
  ExpectPlaced(Flags([](auto& f) { f.base_gpu_id = 7; }), 4, 8, false, 0, DataPlane::kHost);
}

TEST(GpuFlags, NothingSaidAndTooFewGpusSaysWhatWouldDo) {
  EXPECT_EQ(Refused(Flags(), 4, 3),
            "4 ranks want a GPU each, and from --base-gpu-id 0 on there are 3: use fewer ranks, or --ranks "
            "threads for all of them on GPU 0");
  EXPECT_THAT(Refused(Flags([](auto& f) { f.gpu_id_step = 3; }), 4, 8),
              HasSubstr("there are 3 by --gpu-id-step 3: use fewer ranks"));
}

TEST(GpuFlags, ThreadsShareOneGpuHoweverManyThereAre) {
  ExpectPlaced(Flags([](auto& f) { f.ranks = "threads"; }), 4, 8, false, 0, DataPlane::kHost);
  ExpectPlaced(Flags([](auto& f) { f.gpu_id_step = 0; }), 4, 8, false, 0, DataPlane::kHost);
  EXPECT_THAT(Refused(Flags([](auto& f) { f.ranks = "threads", f.gpu_id_step = 1; }), 2, 8),
              HasSubstr("--gpu-id-step 1 gives each rank a GPU of its own"));
  EXPECT_THAT(Refused(Flags([](auto& f) { f.ranks = "threads", f.data_plane = "nccl"; }), 2, 8),
              HasSubstr("--data-plane nccl is between processes"));
}

TEST(GpuFlags, ProcessesAreNcclWithAGpuEachAndStagedOnASharedOne) {
  const auto processes = [](auto& f) { f.ranks = "processes"; };
  ExpectPlaced(Flags(processes), 4, 4, true, 1, DataPlane::kNccl);
  ExpectPlaced(Flags([](auto& f) { f.data_plane = "host"; }), 4, 4, true, 1, DataPlane::kHost);
  ExpectPlaced(Flags([](auto& f) { f.ranks = "processes", f.gpu_id_step = 0; }), 4, 1, true, 0,
               DataPlane::kHost);
  ExpectPlaced(Flags(processes), 1, 1, true, 1, DataPlane::kHost);
  ExpectPlaced(Flags([](auto& f) { f.data_plane = "nccl"; }), 1, 1, true, 1, DataPlane::kNccl);
  EXPECT_EQ(
      Refused(Flags(processes), 4, 2),
      "the 4 ranks of this host want a GPU each, and from --base-gpu-id 0 on there are 2: use fewer ranks "
      "on a host, or --gpu-id-step 0 --ranks processes for all of them on GPU 0");
  EXPECT_THAT(
      Refused(Flags([](auto& f) { f.ranks = "processes", f.gpu_id_step = 0, f.data_plane = "nccl"; }), 4, 4),
      AllOf(HasSubstr("--data-plane nccl takes no two ranks on one GPU"),
            HasSubstr("use --data-plane host")));
}

TEST(GpuFlags, AHopReceivesAsItsRanksCan) {
  const auto with = [](const char* how, const std::function<void(LayoutFlags&)>& set = {}) {
    return Flags([&](auto& f) {
      f.hop_receive = how;
      if (set) set(f);
    });
  };
  EXPECT_EQ(HopReceiveOf(Flags()), engine::HopReceive::kAuto);
  EXPECT_EQ(HopReceiveOf(with("auto")), engine::HopReceive::kAuto);
  EXPECT_EQ(HopReceiveOf(with("copy")), engine::HopReceive::kCopy);
  EXPECT_EQ(HopReceiveOf(with("plane")), engine::HopReceive::kPlane);
  EXPECT_EQ(HopReceiveOf(with("sm")), engine::HopReceive::kHoldsSm);
  const auto processes = [](auto& f) { f.ranks = "processes"; };
  const auto threads = [](auto& f) { f.ranks = "threads"; };
  for (const char* how : {"auto", "copy", "plane"}) {
    ExpectPlaced(with(how, processes), 2, 2, true, 1, DataPlane::kNccl);
  }
  for (const char* how : {"auto", "copy", "sm"}) {
    ExpectPlaced(with(how, threads), 2, 1, false, 0, DataPlane::kHost);
  }
  EXPECT_THAT(Refused(with("sm"), 2, 2), HasSubstr("add --ranks threads"));
  EXPECT_THAT(Refused(with("plane", threads), 2, 2), HasSubstr("add --ranks processes"));
  const auto two_hosts = [](auto& f) { f.nnodes = 2, f.pp = 4; };
  EXPECT_EQ(
      Refused(with("copy", two_hosts), 4, 2),
      "--hop-receive copy has GPUs copy into one another's memory, and of 4 stages on 2 hosts some are on "
      "different ones: use --hop-receive auto");
  ExpectPlaced(with("auto", two_hosts), 4, 2, true, 1, DataPlane::kNccl);
}

TEST(GpuFlags, SeveralHostsHaveProcesses) {
  const auto two = [](auto& f) { f.nnodes = 2; };
  ExpectPlaced(Flags(two), 16, 8, true, 1, DataPlane::kNccl);
  // A GPU each, though a host has but one.
  ExpectPlaced(Flags(two), 2, 1, true, 1, DataPlane::kNccl);
  ExpectPlaced(Flags([](auto& f) { f.nnodes = 2, f.gpu_id_step = 0; }), 2, 1, true, 0, DataPlane::kNccl);
  ExpectPlaced(Flags([](auto& f) { f.nnodes = 2, f.gpu_id_step = 0; }), 4, 1, true, 0, DataPlane::kHost);
  EXPECT_THAT(Refused(Flags(two), 16, 4), HasSubstr("the 8 ranks of this host want a GPU each"));
}

TEST(GpuFlags, WhatIsSaidOfGpusNeedsThem) {
  const auto refused = [](const std::function<void(LayoutFlags&)>& set) {
    return Refused([&] {
      LayoutFlags flags;
      set(flags);
      CheckGpuFlags(flags);
    });
  };
  EXPECT_EQ(refused([](auto& f) { f.gpu_id_step = 1; }),
            "--gpu-id-step 1 is about GPUs: use it with --ops cuda");
  EXPECT_THAT(refused([](auto& f) { f.data_plane = "host"; }), HasSubstr("use it with --ops cuda"));
  EXPECT_THAT(refused([](auto& f) { f.data_plane = "rdma"; }), HasSubstr("use auto, nccl or host"));
  EXPECT_THAT(refused([](auto& f) { f.hop_receive = "copy"; }), HasSubstr("use it with --ops cuda"));
  EXPECT_THAT(refused([](auto& f) { f.hop_receive = "rdma"; }), HasSubstr("use auto, copy, plane or sm"));
  EXPECT_THAT(refused([](auto& f) { f.ops = "cuda", f.gpu_id_step = -1; }), HasSubstr("use 0 to 64"));
  EXPECT_THAT(refused([](auto& f) { f.base_gpu_id = -1; }), HasSubstr("use 0 or more"));
  EXPECT_EQ(refused([](auto&) {}), "it works");
}

}  // namespace
}  // namespace sluice::cli
