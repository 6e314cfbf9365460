#include "engine/rank_host.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "comm/gloo_world.h"
#include "comm/nccl/nccl_plane.h"
#include "comm/ordered_channel.h"
#include "comm/peer_copies.h"
#include "comm/staged_communicator.h"
#include "engine/build_id.h"
#include "engine/faults.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cuda/device.h"
#include "ops/reference/reference_ops.h"
#include "ops/traced_ops.h"
#include "pipeline/groups.h"
#include "pipeline/rank.h"
#include "pipeline/start_up.h"

namespace sluice::engine {

std::unique_ptr<ops::Ops> MakeOps(const JobSettings& settings, bool checkpoint_is_fp8, ComputePool& pool) {
  const ops::Numerics numerics = NumericsOf(settings.numerics, checkpoint_is_fp8);
  if (settings.ops == "cpu") return ops::MakeCpuOps(numerics, pool);
  if (settings.ops == "cuda") return ops::cuda::MakeCudaOps(settings.gpu);
  if (settings.ops == "reference") return ops::MakeReferenceOps(numerics);
  Fail(ErrorKind::kUsage, "there is no back end {}: use cpu, cuda or reference", settings.ops);
}

pipeline::RankOptions RankOptionsOf(const JobSettings& settings, const checkpoint::ModelConfig& config,
                                    int rank) {
  return {settings.grid,
          rank,
          LayerCutOf(settings, config),
          settings.split_mode,
          settings.expert_owners > 0 ? settings.expert_owners : settings.grid.lanes,
          settings.dense_tp,
          settings.load_nextn,
          settings.cache_pages,
          settings.max_steps_in_flight,
          settings.sm_reserve,
          settings.largest_step,
          settings.graph_rows,
          settings.events_on_failure,
          {}};
}

std::string HostRank(const JobSettings& settings, int rank, const checkpoint::Checkpoint& checkpoint,
                     ComputePool& pool, comm::Communicator& world, comm::Channel& control,
                     trace::Recorder& recorder, comm::FaultInjector* faults, const RankProbes& probes,
                     model::WeightStore* shared) {
  std::unique_ptr<ops::Ops> ops;
  std::unique_ptr<comm::Communicator> wrapped;
  std::unique_ptr<pipeline::Rank> worker;
  try {
    const pipeline::StartUpHeartbeats heartbeats(control, recorder);
    if (faults != nullptr) faults->AtStartUp(recorder);
    if (probes.wrap_world) wrapped = probes.wrap_world(rank, world);
    comm::Communicator& plane = wrapped != nullptr ? *wrapped : world;
    pipeline::Groups groups = pipeline::MakeGroups(plane, settings.grid, rank);
    if (plane.ConnectsWhenUsed()) pipeline::TryDataPlane(plane, groups, settings.grid, rank, recorder);
    const auto& config = checkpoint.config();
    pipeline::RankOptions options = RankOptionsOf(settings, config, rank);
    if (faults != nullptr) options.at_pass = [faults](int64_t step) { faults->AtPass(step); };
    ops = MakeOps(settings, checkpoint.is_fp8(), pool);
    if (probes.wrap_ops) ops = probes.wrap_ops(rank, std::move(ops));
    if (settings.trace_events > 0) ops = ops::MakeTraced(std::move(ops), recorder);
    const model::StageSlice slice = pipeline::SliceOf(options);
    model::StageWeights weights = model::LoadStage(checkpoint, *ops, slice, shared);
    checkpoint.VerifyIntact();
    if (probes.after_load) probes.after_load(rank, weights);
    auto stage = std::make_unique<model::StageModel>(config, slice, std::move(weights),
                                                     CacheFormatOf(settings, checkpoint.is_fp8()),
                                                     settings.cache_pages, ops->memory());
    spdlog::debug("rank {}: lane {}, layers from {}, weights packed, {} pages of cache", rank, slice.lane,
                  slice.layers.front().begin, settings.cache_pages);
    worker = std::make_unique<pipeline::Rank>(options, std::move(stage), *ops, plane, std::move(groups),
                                              control, recorder);
    if (probes.when_ready) probes.when_ready(rank);
  } catch (const std::exception& error) {
    pipeline::ReportFailure(control, pipeline::FailureOf(error));
    return error.what();
  }
  const std::string failure = worker->Run();
  if (probes.when_over) probes.when_over(failure);
  return failure;
}

comm::Hello HelloOf(const JobSettings& settings, int rank, uint64_t checkpoint_fingerprint) {
  return {rank, settings.grid.world(), BuildId(), settings.Description(checkpoint_fingerprint)};
}

namespace {

std::unique_ptr<comm::Communicator> MakeDataPlane(const JobSettings& settings, int rank,
                                                  comm::KeyValueStore& store) {
  const int world = settings.grid.world();
  if (settings.data_plane == DataPlane::kNccl) {
    return comm::MakeNcclPlane(rank, world, store, settings.data_plane_address, settings.gpu,
                               ops::cuda::DeviceMemory(settings.gpu), settings.data_plane_limit());
  }
  auto host =
      comm::MakeGlooWorld(rank, world, store, settings.data_plane_address, settings.data_plane_limit());
  if (settings.ops != "cuda") return host;
  return comm::MakeStaged(std::move(host), ops::cuda::DeviceMemory(settings.gpu),
                          ops::cuda::PinnedMemory(settings.gpu));
}

std::string RanksIn(const std::vector<int>& ranks) { return fmt::format("{}", fmt::join(ranks, ", ")); }

// The same, with copies from GPU to GPU between a rank and its neighbours in the ring of stages, where they
// are wanted and possible.
std::unique_ptr<comm::Communicator> WithCopies(std::unique_ptr<comm::Communicator> plane,
                                               const JobSettings& settings, int rank,
                                               comm::KeyValueStore& store) {
  const parallel::Grid& grid = settings.grid;
  if (settings.ops != "cuda" ||
      (settings.hop_receive != HopReceive::kCopy && settings.hop_receive != HopReceive::kAuto) ||
      grid.stages == 1)
    return plane;
  const int stage = grid.StageOf(rank);
  const int lane = grid.LaneOf(rank);
  std::vector<int> to, from;
  if (stage + 1 < grid.stages || grid.virtual_stages > 1) {
    to.push_back(grid.Rank((stage + 1) % grid.stages, lane));
  }
  if (stage > 0 || grid.virtual_stages > 1) {
    from.push_back(grid.Rank((stage + grid.stages - 1) % grid.stages, lane));
  }
  comm::CopyEdges edges;
  plane = comm::MakePeerCopies(std::move(plane), ops::cuda::SharingOf(settings.gpu), to, from, store,
                               settings.data_plane_address, settings.hop_receive == HopReceive::kCopy,
                               settings.data_plane_limit(), &edges);
  if (!edges.to.empty()) {
    spdlog::info("rank {}: rows go to rank {} by copies from GPU {} into its memory", rank, RanksIn(edges.to),
                 settings.gpu);
  }
  for (const std::string& why : edges.not_to) {
    spdlog::info("rank {}: rows go by the data plane, not by copies, to {}", rank, why);
  }
  return plane;
}

// What the driver says of this rank's GPU, once the rank has taken all that it will.
void LogMemory(const JobSettings& settings, int rank) {
  const ops::cuda::MemoryInfo now = ops::cuda::MemoryOf(settings.gpu);
  spdlog::info("rank {} is ready: the driver reports {:.2f} GiB of GPU {} in use", rank,
               static_cast<double>(now.total_bytes - now.free_bytes) / (1 << 30), settings.gpu);
}

constexpr int kLost = 5;  // exit code

void SayWhy(const JobSettings& settings, const std::string& failure) {
  if (settings.speaks_for_node) spdlog::error("the job ended: {}", failure);
}

// A stream may wait for a mark of a process that is gone, and never end; whoever gave back what is on the
// device would wait for it. The driver gives it back when the process ends.
[[noreturn]] void LeaveAtOnce(const JobSettings& settings, const std::string& failure) {
  SayWhy(settings, failure);
  spdlog::default_logger()->flush();
  _exit(kLost);
}

}  // namespace

int RunRankProcess(const JobSettings& settings, int rank, const std::string& join_address) {
  // No other rank's stream can wait for this process's (ops/cuda/device.cc), and NCCL's kernels are many.
  setenv("CUDA_MODULE_LOADING", "LAZY", 0);
  const auto secret = comm::GivenSecret("");
  SLUICE_CHECK(secret.has_value(), "whoever starts a rank process gives it {}", comm::kSecretVariable);
  const auto checkpoint = checkpoint::Checkpoint::Open(settings.model_path);
  RankProbes probes;
  if (settings.ops == "cuda") {
    ops::cuda::MemoryOf(
        settings.gpu);  // a GPU that does not start is said before anybody waits for this rank
    probes.when_ready = [&settings](int of) { LogMemory(settings, of); };
    probes.when_over = [&settings](const std::string& failure) {
      if (!failure.empty()) LeaveAtOnce(settings, failure);
    };
  }
  auto joined = comm::Join(comm::ParseAddress(join_address),
                           HelloOf(settings, rank, checkpoint->fingerprint()), *secret, settings.join_limit);
  comm::JoinedStore store(*joined);
  auto world = WithCopies(MakeDataPlane(settings, rank, store), settings, rank, store);
  comm::SayConnected(*joined);

  const auto faults = MakeInjector(settings, rank, RankKind::kProcess, *joined);
  const auto control = comm::MakeOrderedChannel(WithRankFaults(std::move(joined), faults));
  world = WithDataFaults(std::move(world), faults);
  ComputePool pool(std::max(0, settings.compute_threads - 1));
  trace::Recorder recorder(rank, trace::kDefaultSpans, trace::kDefaultPasses,
                           std::max<size_t>(1, settings.trace_events));
  const std::string failure =
      HostRank(settings, rank, *checkpoint, pool, *world, *control, recorder, faults.get(), probes, nullptr);
  if (failure.empty()) return 0;
  SayWhy(settings, failure);
  return kLost;
}

}  // namespace sluice::engine
