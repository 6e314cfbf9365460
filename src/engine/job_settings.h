#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "checkpoint/model_config.h"
#include "comm/fault_plan.h"
#include "ops/ops.h"
#include "parallel/grid.h"
#include "parallel/layer_cut.h"
#include "parallel/row_split.h"
#include "step/step.h"
#include "trace/recorder.h"

namespace sluice::engine {

enum class NumericsChoice { kAuto, kExact, kFp8 };  // kAuto: fp8 for FP8 checkpoints, exact for the others

// What carries rows between rank processes. kHost: the hosts' sockets, for GPUs through pinned host memory.
// kNccl: NCCL, for which every rank has a GPU of its own.
enum class DataPlane { kHost, kNccl };

// How ranks on GPUs receive from the stage before. kPlane: the data plane between processes carries rows, and
// hosts wait; threads copy, and streams wait. kCopy: between processes, too, the sender's GPU copies into the
// receiver's memory. kAuto: the same between different GPUs of a host that can, else kPlane. kHoldsSm: as
// NCCL's receives, a receive holds an SM; between threads, to compare.
enum class HopReceive { kPlane, kCopy, kAuto, kHoldsSm };

// What every rank of a job must agree on, and what each host may choose for itself.
struct JobSettings {
  std::filesystem::path model_path;  // may differ from host to host; the checkpoint's fingerprint may not
  parallel::Grid grid;
  std::vector<int64_t> layer_sizes;  // layers per virtual stage; empty: the default cut
  int expert_owners = 0;             // lanes of a stage that hold experts, from the first; 0: all
  bool dense_tp = false;             // --moe-dense-tp-size tp: dense MLPs are cut over the lanes
  bool load_nextn = false;           // --load-mtp: ranks of the last stage hold the nextn layers, too
  parallel::SplitMode split_mode = parallel::SplitMode::kInterleave;
  NumericsChoice numerics = NumericsChoice::kAuto;
  std::string ops = "cpu";  // "cpu", "cuda" or "reference"
  int gpu = 0;       // --base-gpu-id: of "cuda", that of this host's first rank; in a rank process its own
  int gpu_step = 0;  // --gpu-id-step: from a rank of this host to the next; 0: they share one, as threads do
  DataPlane data_plane = DataPlane::kHost;       // --data-plane
  std::optional<int> sm_reserve;                 // --sm-reserve; none: auto
  HopReceive hop_receive = HopReceive::kPlane;   // --hop-receive
  std::optional<ops::CacheFormat> cache_format;  // --kv-cache-dtype; none: as the numerics have it
  int64_t cache_pages = 0;                       // pages of 64 tokens on every rank
  int max_steps_in_flight = 8;
  step::StepLimits largest_step;    // for which ranks on a GPU take memory at start; rows 0: as steps need it
  std::vector<int64_t> graph_rows;  // --cuda-graph-bs: rows of decode steps that ranks on a GPU record
  size_t trace_events = trace::kDefaultEvents;  // --trace-events: of every rank; 0: ops are not noted
  bool events_on_failure = false;               // ranks that fail send it, for --trace-dir
  int loader_threads = 4;
  int compute_threads = 0;                          // of this host; 0: one per core
  Duration join_limit = std::chrono::seconds(60);   // --dist-timeout: in which all ranks must have joined
  Duration wait_limit = std::chrono::seconds(300);  // --watchdog-timeout: longest a rank waits for a peer
  Duration stall_limit = std::chrono::seconds(5);   // --stall-report-after: longest before that is reported
  std::string data_plane_address = "127.0.0.1";     // by which other ranks reach those of this host
  std::string log_level = "info";                   // --log-level, of rank processes
  std::string log_format = "text";                  // theirs too: text or json
  bool speaks_for_node = false;  // this rank logs why it ends: one rank of each host without the controller
  Duration link_delay{0};        // emulated latency of every hop
  comm::FaultPlan fault_plan;    // --fault-plan: what goes wrong on purpose

  // How long a wait of the data plane lasts at most. Beyond wait_limit, so that it is the controller that
  // ends a stall, with everybody's records before it; a rank's own limit is for when there is no controller.
  Duration data_plane_limit() const { return wait_limit + std::chrono::seconds(3); }

  // The agreed part as one line, "name value name value ...": what Hello frames carry and compare, field by
  // field (comm/hello.h). No value has a space.
  std::string Description(uint64_t checkpoint_fingerprint) const;
};

// All of it as JSON text, for the command line of a rank process; Parse reads what Print wrote.
std::string Print(const JobSettings& settings);
JobSettings ParseJobSettings(const std::string& json);

// The layer cut these settings ask for. Throws Error(kUsage) as parallel::ExplicitLayerCut does.
std::vector<parallel::LayerRange> LayerCutOf(const JobSettings& settings,
                                             const checkpoint::ModelConfig& config);

// Throws Error(kUsage), naming what would work, for an unknown back end, for a lane that would be left
// without vocabulary rows or a part of the dense MLPs, and for heads that cannot be cut over the head groups.
void CheckFits(const JobSettings& settings, const checkpoint::ModelConfig& config, bool checkpoint_is_fp8);

ops::Numerics NumericsOf(NumericsChoice choice, bool checkpoint_is_fp8);
ops::CacheFormat CacheFormatOf(const JobSettings& settings, bool checkpoint_is_fp8);

}  // namespace sluice::engine
