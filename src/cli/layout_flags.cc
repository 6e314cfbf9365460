#include "cli/layout_flags.h"

#include <signal.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <thread>
#include <utility>

#include "checkpoint/nextn.h"
#include "checkpoint/random_path.h"
#include "cli/gpu_flags.h"
#include "cli/joining_flags.h"
#include "cli/schedule_flags.h"
#include "comm/job_secret.h"
#include "comm/nccl/nccl_plane.h"
#include "ops/cuda/device.h"

namespace sluice::cli {
namespace {

std::vector<int64_t> ParsePartition(const std::string& text) {
  std::vector<int64_t> sizes;
  const char* at = text.data();
  const char* end = text.data() + text.size();
  while (at < end) {
    int64_t size = 0;
    const auto [next, error] = std::from_chars(at, end, size);
    if (error != std::errc() || (next < end && *next != ',')) {
      Fail(ErrorKind::kUsage, "--pp-layer-partition {} is not a list of layer counts such as 30,31", text);
    }
    sizes.push_back(size);
    at = next < end ? next + 1 : end;
  }
  return sizes;
}

parallel::SplitMode SplitModeOf(const std::string& name) {
  if (name == "round-robin-split" || name == "interleave") return parallel::SplitMode::kInterleave;
  if (name == "in-seq-split" || name == "zigzag") return parallel::SplitMode::kZigzag;
  Fail(ErrorKind::kUsage,
       "--nsa-prefill-cp-mode {} is not known: use round-robin-split (interleave) or in-seq-split (zigzag)",
       name);
}

// Refuses what a stage's ranks cannot be used for: every axis is there or is named.
parallel::Grid GridOf(const LayoutFlags& f) {
  const int64_t cp = f.cp.value_or(f.enable_cp ? f.tp : 1);
  const parallel::Grid grid = parallel::MakeGrid(f.pp, f.tp, cp, f.virtual_stages);
  if (f.dp > 1 && f.tp % (f.dp * cp) != 0) {
    Fail(ErrorKind::kUsage,
         "--tp {} cannot be divided into --dp-size {} x --attn-cp-size {}, and there is no attention data "
         "parallelism: use --dp-size 1",
         f.tp, f.dp, cp);
  }
  if (f.dp != 1) {
    Fail(ErrorKind::kUsage,
         "--dp-size {} asks for attention data parallelism, which there is not: use --dp-size 1; the rows of "
         "all "
         "requests are dealt over the {} ranks of a stage anyway",
         f.dp, f.tp);
  }
  if (f.ep != 1 && f.ep != f.tp) {
    Fail(ErrorKind::kUsage,
         "--ep-size {} is neither 1 nor --tp {}: experts are held whole and spread over all ranks of a "
         "stage; use "
         "--ep-size {}",
         f.ep, f.tp, f.tp);
  }
  if (f.moe_dense_tp != 1 && f.moe_dense_tp != f.tp) {
    Fail(ErrorKind::kUsage,
         "--moe-dense-tp-size {} is neither 1 nor --tp {}: use 1 to hold the dense MLPs whole on every rank, "
         "or {} "
         "to cut them",
         f.moe_dense_tp, f.tp, f.tp);
  }
  return grid;
}

int ExpertOwnersOf(const LayoutFlags& f, const parallel::Grid& grid) {
  const int64_t owners = f.expert_owners.value_or(grid.lanes);
  if (owners < 1 || owners > grid.lanes) {
    Fail(ErrorKind::kUsage, "--expert-owners {} is out of range: a stage has {} ranks, use 1 to {}", owners,
         grid.lanes, grid.lanes);
  }
  return static_cast<int>(owners);
}

engine::NumericsChoice NumericsChoiceOf(const std::string& name) {
  if (name == "auto") return engine::NumericsChoice::kAuto;
  if (name == "exact") return engine::NumericsChoice::kExact;
  if (name == "fp8") return engine::NumericsChoice::kFp8;
  Fail(ErrorKind::kUsage, "--numerics {} is not known: use auto, exact or fp8", name);
}

std::optional<ops::CacheFormat> CacheFormatNamed(const std::string& name) {
  if (name == "auto") return std::nullopt;
  if (name == "bf16" || name == "bfloat16") return ops::CacheFormat::kBf16;
  if (name == "fp8_e4m3") return ops::CacheFormat::kFp8;
  if (name == "f32") return ops::CacheFormat::kF32;
  Fail(ErrorKind::kUsage, "--kv-cache-dtype {} is not known: use auto, bf16, fp8_e4m3 or f32", name);
}

}  // namespace

void AddLayoutFlags(CLI::App& app, LayoutFlags& f) {
  const char* parallel = "Layout";
  app.add_option("--pp-size,--pipeline-parallel-size", f.pp, "Pipeline stages")->group(parallel);
  app.add_option("--tp,--tp-size,--tensor-parallel-size", f.tp, "Ranks per stage")->group(parallel);
  app.add_option("--attn-cp-size,--attention-context-parallel-size", f.cp,
                 "Context-parallel lanes per stage; --tp when CP is enabled")
      ->group(parallel);
  app.add_option("--dp-size,--dp,--data-parallel-size", f.dp, "Attention data parallelism; only 1")
      ->group(parallel);
  app.add_option("--ep-size,--ep,--expert-parallel-size", f.ep,
                 "1 or --tp: whole experts, spread over the ranks of a stage")
      ->group(parallel);
  app.add_option("--expert-owners", f.expert_owners, "Ranks of a stage that hold experts; default all")
      ->group(parallel);
  app.add_option("--moe-dense-tp-size", f.moe_dense_tp,
                 "1: every rank holds the dense MLPs whole; --tp: cut over the ranks of a stage")
      ->group(parallel);
  app.add_option("--pp-virtual-stages", f.virtual_stages,
                 "Layer ranges of a stage; a step visits it once for each")
      ->group(parallel);
  app.add_flag("--enable-nsa-prefill-context-parallel", f.enable_cp, "Deal rows over the ranks of a stage")
      ->group(parallel);
  app.add_option("--nsa-prefill-cp-mode,--cp-strategy", f.cp_mode,
                 "round-robin-split (interleave) or in-seq-split (zigzag)")
      ->group(parallel);
  app.add_option("--pp-layer-partition", f.layer_partition, "Layers per (virtual) stage, such as 30,31")
      ->envname("SGLANG_PP_LAYER_PARTITION")
      ->group(parallel);
  AddJoiningFlags(app, f);
  app.add_option("--ranks", f.ranks,
                 "Ranks as threads or processes; default threads on one host, processes on several and where "
                 "each has a GPU")
      ->group(parallel);

  AddScheduleFlags(app, f);

  app.add_flag("--load-mtp", f.load_mtp,
               "Also load the model's multi-token-prediction layers; nothing is drafted with them")
      ->group("Model and server");

  const char* numerics = "Numerics and waiting";
  app.add_option("--numerics", f.numerics, "auto (by the checkpoint), exact (fp32) or fp8")->group(numerics);
  app.add_option("--kv-cache-dtype", f.kv_cache_dtype,
                 "auto (fp8_e4m3 in fp8, f32 in exact), bf16, fp8_e4m3 or f32")
      ->group(numerics);
  app.add_option("--ops", f.ops, "cpu (SIMD), cuda (a Hopper GPU) or reference (naive, double)")
      ->group(numerics);
  AddGpuFlags(app, f);
  app.add_option("--watchdog-timeout", f.watchdog_timeout_seconds, "Seconds a rank may keep another waiting")
      ->group(numerics);
  app.add_option("--stall-report-after", f.stall_report_after_seconds,
                 "Seconds after which a rank that does not arrive is reported and /ready answers 503")
      ->group(numerics);
  app.add_option("--fault-plan", f.fault_plan, "JSON file of faults to inflict on the ranks; docs/faults.md")
      ->group(numerics);
  app.add_option("--emulate-link-delay-ms", f.link_delay_ms, "Delay every hop, to see overlap on one host")
      ->group(numerics);
}

namespace {

// Every GPU that a rank of this host will be on is one that it can use, and so is what is between them.
void Place(const LayoutFlags& f, engine::JobSettings& settings) {
  const int64_t world = settings.grid.world();
  const GpuPlacement placement = PlaceOnGpus(f, world, ops::cuda::Devices());
  settings.gpu_step = placement.step;
  settings.data_plane = placement.plane;
  for (int64_t rank = 1; placement.step > 0 && rank < world / f.nnodes; ++rank) {
    ops::cuda::CheckDevice(settings.gpu + static_cast<int>(rank) * placement.step);
  }
  if (placement.plane == engine::DataPlane::kNccl) comm::CheckNccl();
}

}  // namespace

engine::JobSettings SettingsOf(const LayoutFlags& f, const checkpoint::Checkpoint& checkpoint) {
  const auto& config = checkpoint.config();
  const auto at_least = [](const char* flag, int64_t value, int64_t least) {
    if (value < least) Fail(ErrorKind::kUsage, "{} {} is out of range: use {} or more", flag, value, least);
  };
  at_least("--nnodes", f.nnodes, 1);
  at_least("--emulate-link-delay-ms", f.link_delay_ms, 0);
  if (!(f.watchdog_timeout_seconds > 0.0) || f.watchdog_timeout_seconds > 1e7) {
    Fail(ErrorKind::kUsage, "--watchdog-timeout {} is out of range: use seconds above 0, at most 10000000",
         f.watchdog_timeout_seconds);
  }
  CheckScheduleFlags(f, config);
  // Heartbeats come five times a second: below a second, their jitter would be reported.
  if (!(f.stall_report_after_seconds >= 1.0) || f.stall_report_after_seconds > 1e7) {
    Fail(ErrorKind::kUsage, "--stall-report-after {} is out of range: use 1 to 10000000 seconds",
         f.stall_report_after_seconds);
  }

  engine::JobSettings settings;
  settings.model_path = f.model_path;
  if (!checkpoint::IsRandomPath(f.model_path)) {
    settings.model_path = std::filesystem::absolute(settings.model_path);
  }
  settings.grid = GridOf(f);
  settings.expert_owners = ExpertOwnersOf(f, settings.grid);
  settings.dense_tp = f.moe_dense_tp != 1;
  if (f.load_mtp) checkpoint::CheckNextnIsWhole(checkpoint, f.model_path, "--load-mtp");
  settings.load_nextn = f.load_mtp;
  settings.layer_sizes = ParsePartition(f.layer_partition);
  settings.split_mode = SplitModeOf(f.cp_mode);
  settings.numerics = NumericsChoiceOf(f.numerics);
  settings.ops = f.ops;
  CheckGpuFlags(f);
  settings.gpu = static_cast<int>(std::min<int64_t>(f.base_gpu_id, std::numeric_limits<int>::max()));
  if (f.ops == "cuda") ops::cuda::CheckDevice(settings.gpu);
  settings.sm_reserve = SmReserveOf(f);
  settings.hop_receive = HopReceiveOf(f);
  settings.cache_format = CacheFormatNamed(f.kv_cache_dtype);
  settings.max_steps_in_flight =
      std::max(8, 4 * settings.grid.stages) + static_cast<int>(f.pp_async_batch_depth);
  settings.loader_threads = LoaderThreadsOf(f);
  settings.data_plane_address = f.data_plane_addr;
  settings.join_limit = std::chrono::seconds(f.dist_timeout_seconds);
  settings.wait_limit = Duration(static_cast<int64_t>(f.watchdog_timeout_seconds * 1e9));
  settings.stall_limit = Duration(static_cast<int64_t>(f.stall_report_after_seconds * 1e9));
  settings.link_delay = std::chrono::milliseconds(f.link_delay_ms);
  if (!f.fault_plan.empty()) {
    settings.fault_plan = comm::ReadFaultPlan(f.fault_plan, settings.grid.world());
    if (f.ranks != "processes" && f.nnodes == 1) comm::CheckRunsInThreads(settings.fault_plan);
  }
  engine::LayerCutOf(settings, config);
  engine::CheckFits(settings, config, checkpoint.is_fp8());

  if (settings.grid.world() % f.nnodes != 0) {
    Fail(ErrorKind::kUsage, "{} ranks cannot be spread evenly over --nnodes {}: use a divisor of {}",
         settings.grid.world(), f.nnodes, settings.grid.world());
  }
  if (f.node_rank < 0 || f.node_rank >= f.nnodes) {
    Fail(ErrorKind::kUsage, "--node-rank {} is out of range: use 0 to {}", f.node_rank, f.nnodes - 1);
  }
  CheckJoining(f);
  if (f.ranks == "threads" && f.nnodes > 1) {
    Fail(ErrorKind::kUsage, "--ranks threads works on one node only: use --ranks processes with --nnodes {}",
         f.nnodes);
  }
  if (!f.ranks.empty() && f.ranks != "threads" && f.ranks != "processes") {
    Fail(ErrorKind::kUsage, "--ranks {} is not known: use threads or processes", f.ranks);
  }
  if (f.ops == "cuda") Place(f, settings);
  settings.largest_step = LargestStepOf(f, config);
  if (settings.ops == "cuda") settings.graph_rows = f.graph_rows;
  settings.cache_pages = CachePagesOf(f, settings, checkpoint);
  return settings;
}

namespace {

// Whether SIGINT or SIGTERM has come and waits; only a process that blocks them has such.
bool EndSignalPending() {
  sigset_t pending;
  sigemptyset(&pending);
  sigpending(&pending);
  return sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1;
}

}  // namespace

engine::ProcessPlan PlanOf(const LayoutFlags& flags) {
  engine::ProcessPlan plan;
  plan.program = std::filesystem::read_symlink("/proc/self/exe");
  plan.nodes = static_cast<int>(flags.nnodes);
  plan.node = static_cast<int>(flags.node_rank);
  plan.join_address = flags.dist_init_addr;
  plan.secret = comm::GivenSecret(flags.job_secret_file);
  plan.asked_to_end = EndSignalPending;
  return plan;
}

bool RanksAreProcesses(const LayoutFlags& flags, const engine::JobSettings& settings) {
  if (settings.ops == "cuda") {
    return PlaceOnGpus(flags, settings.grid.world(), ops::cuda::Devices()).processes;
  }
  return flags.ranks == "processes" || (flags.ranks.empty() && flags.nnodes > 1);
}

std::unique_ptr<engine::RankSet> StartRanks(const LayoutFlags& flags, const engine::JobSettings& settings,
                                            std::shared_ptr<const checkpoint::Checkpoint> checkpoint) {
  if (!RanksAreProcesses(flags, settings))
    return engine::StartThreadRanks(settings, std::move(checkpoint), {});
  return engine::StartProcessRanks(settings, checkpoint->fingerprint(), PlanOf(flags));
}

}  // namespace sluice::cli
