#include "cli/gpu_flags.h"

#include <fmt/format.h>

#include <charconv>

#include "base/checked.h"
#include "base/error.h"

namespace sluice::cli {
namespace {

constexpr int kMostReserved = 64;  // the smallest Hopper GPU has 78 SMs

bool WantsThreads(const LayoutFlags& f) {
  return f.ranks == "threads" || (f.ranks.empty() && f.nnodes == 1 && f.gpu_id_step == 0);
}

bool WantsProcesses(const LayoutFlags& f) {
  return f.ranks == "processes" || f.nnodes > 1 || f.data_plane != "auto";
}

GpuPlacement Threads(const LayoutFlags& f, int64_t world) {
  if (f.data_plane != "auto") {
    Fail(ErrorKind::kUsage,
         "--data-plane {} is between processes, and {} has threads: leave one of them out, or use --ranks "
         "processes",
         f.data_plane, f.ranks == "threads" ? "--ranks threads" : "--gpu-id-step 0");
  }
  if (f.gpu_id_step.value_or(0) > 0 && world > 1) {
    Fail(ErrorKind::kUsage,
         "--gpu-id-step {} gives each rank a GPU of its own, and --ranks threads has all of them on GPU {}: "
         "leave one of them out",
         *f.gpu_id_step, f.base_gpu_id);
  }
  if (f.hop_receive == "plane") {
    Fail(ErrorKind::kUsage,
         "--hop-receive plane is for ranks as processes, between which there is a data plane: add --ranks "
         "processes, or leave it out");
  }
  return {};
}

GpuPlacement Processes(const LayoutFlags& f, int64_t world, int64_t own_gpus) {
  const int64_t here = world / f.nnodes;
  const int64_t step = f.gpu_id_step.value_or(1);
  const bool own = step > 0 || here == 1;
  if (f.hop_receive == "sm") {
    Fail(ErrorKind::kUsage,
         "--hop-receive sm is for ranks as threads of one process, to compare: add --ranks threads, or leave "
         "it out");
  }
  if (f.hop_receive == "copy" && f.nnodes > 1 && f.pp > 1) {
    Fail(ErrorKind::kUsage,
         "--hop-receive copy has GPUs copy into one another's memory, and of {} stages on {} hosts some are "
         "on "
         "different ones: use --hop-receive auto",
         f.pp, f.nnodes);
  }
  if (own && own_gpus < here) {
    Fail(ErrorKind::kUsage,
         "the {} ranks of this host want a GPU each, and from --base-gpu-id {} on there are {}{}: use fewer "
         "ranks on a host, or --gpu-id-step 0 --ranks processes for all of them on GPU {}",
         here, f.base_gpu_id, own_gpus, step > 1 ? fmt::format(" by --gpu-id-step {}", step) : "",
         f.base_gpu_id);
  }
  if (f.data_plane == "nccl" && !own) {
    Fail(ErrorKind::kUsage,
         "--data-plane nccl takes no two ranks on one GPU, and --gpu-id-step 0 has the {} ranks of this host "
         "on GPU {}: use --data-plane host, or leave --gpu-id-step out",
         here, f.base_gpu_id);
  }
  const bool nccl = f.data_plane == "nccl" || (f.data_plane == "auto" && own && world > 1);
  return {true, static_cast<int>(step), nccl ? engine::DataPlane::kNccl : engine::DataPlane::kHost};
}

}  // namespace

void AddGpuFlags(CLI::App& app, LayoutFlags& f) {
  const char* group = "Numerics and waiting";
  app.add_option("--base-gpu-id", f.base_gpu_id, "With --ops cuda, the GPU of this host's first rank")
      ->group(group);
  app.add_option("--gpu-id-step", f.gpu_id_step,
                 "With --ops cuda, from the GPU of a rank to that of this host's next, 1 where nothing is "
                 "said; 0: all on --base-gpu-id")
      ->group(group);
  app.add_option(
         "--data-plane", f.data_plane,
         "With --ops cuda, what carries rows between rank processes: nccl, host (through host memory) "
         "or auto (nccl where each has a GPU of its own)")
      ->group(group);
  app.add_option("--sm-reserve", f.sm_reserve,
                 "With --ops cuda, SMs that kernels leave to communication: auto (what the hop holds) or a "
                 "number")
      ->group(group);
  app.add_option(
         "--hop-receive", f.hop_receive,
         "With --ops cuda, how rows come from the stage before: copy (the sender's GPU writes them here, "
         "the receiver's stream waits), plane (by --data-plane), sm (a receive holds an SM; to compare) "
         "or auto (copy where GPUs can), which is what is done where nothing is said")
      ->group(group);
}

void CheckGpuFlags(const LayoutFlags& f) {
  const auto of_gpu = [&](bool said, const std::string& what) {
    if (said && f.ops != "cuda") Fail(ErrorKind::kUsage, "{}: use it with --ops cuda", what);
  };
  if (f.base_gpu_id < 0) {
    Fail(ErrorKind::kUsage, "--base-gpu-id {} is out of range: use 0 or more", f.base_gpu_id);
  }
  if (f.gpu_id_step.value_or(0) < 0 || f.gpu_id_step.value_or(0) > 64) {
    Fail(ErrorKind::kUsage, "--gpu-id-step {} is out of range: use 0 to 64", *f.gpu_id_step);
  }
  of_gpu(f.gpu_id_step.has_value(), fmt::format("--gpu-id-step {} is about GPUs", f.gpu_id_step.value_or(0)));
  if (f.data_plane != "auto" && f.data_plane != "nccl" && f.data_plane != "host") {
    Fail(ErrorKind::kUsage, "--data-plane {} is not known: use auto, nccl or host", f.data_plane);
  }
  of_gpu(f.data_plane != "auto", fmt::format("--data-plane {} is about the rows of GPUs", f.data_plane));
  const auto is = [&](const char* how) { return f.hop_receive == how; };
  if (!is("") && !is("auto") && !is("copy") && !is("plane") && !is("sm")) {
    Fail(ErrorKind::kUsage, "--hop-receive {} is not known: use auto, copy, plane or sm", f.hop_receive);
  }
  of_gpu(!is(""), fmt::format("--hop-receive {} is about GPUs", f.hop_receive));
}

engine::HopReceive HopReceiveOf(const LayoutFlags& f) {
  if (f.hop_receive == "copy") return engine::HopReceive::kCopy;
  if (f.hop_receive == "plane") return engine::HopReceive::kPlane;
  return f.hop_receive == "sm" ? engine::HopReceive::kHoldsSm : engine::HopReceive::kAuto;
}

std::optional<int> SmReserveOf(const LayoutFlags& f) {
  if (f.sm_reserve == "auto") return std::nullopt;
  int reserve = -1;
  const char* end = f.sm_reserve.data() + f.sm_reserve.size();
  const auto [rest, error] = std::from_chars(f.sm_reserve.data(), end, reserve);
  if (error != std::errc() || rest != end || reserve < 0 || reserve > kMostReserved) {
    Fail(ErrorKind::kUsage, "--sm-reserve {} is not known: use auto or 0 to {}", f.sm_reserve, kMostReserved);
  }
  if (f.ops != "cuda") {
    Fail(ErrorKind::kUsage, "--sm-reserve {} is about the SMs of a GPU: use it with --ops cuda",
         f.sm_reserve);
  }
  return reserve;
}

GpuPlacement PlaceOnGpus(const LayoutFlags& f, int64_t world, int64_t visible) {
  if (WantsThreads(f)) return Threads(f, world);
  const int64_t step = std::max<int64_t>(1, f.gpu_id_step.value_or(1));
  const int64_t own_gpus = CeilDiv(std::max<int64_t>(0, visible - f.base_gpu_id), step);
  if (WantsProcesses(f) || (world > 1 && own_gpus >= world)) return Processes(f, world, own_gpus);
  if (world == 1 || (own_gpus == 1 && !f.gpu_id_step.has_value())) return Threads(f, world);
  Fail(ErrorKind::kUsage,
       "{} ranks want a GPU each, and from --base-gpu-id {} on there are {}{}: use fewer ranks, or --ranks "
       "threads for all of them on GPU {}",
       world, f.base_gpu_id, own_gpus, step > 1 ? fmt::format(" by --gpu-id-step {}", step) : "",
       f.base_gpu_id);
}

}  // namespace sluice::cli
