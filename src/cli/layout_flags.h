#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "engine/job_settings.h"
#include "engine/rank_set.h"

namespace sluice::cli {

// The flags that say which model runs on which ranks; shared by every subcommand that starts ranks. Names and
// meanings are those of the reference system's launch lines (docs/launch-flags.md).
struct LayoutFlags {
  std::string model_path;
  int64_t tp = 1;
  int64_t pp = 1;
  std::optional<int64_t> cp;  // not given: tp where CP is enabled, else 1
  int64_t dp = 1;
  int64_t ep = 1;
  std::optional<int64_t> expert_owners;  // not given: all ranks of a stage
  int64_t moe_dense_tp = 1;
  int64_t virtual_stages = 1;
  bool enable_cp = false;
  std::string cp_mode = "round-robin-split";
  std::string layer_partition;  // "30,31"
  int64_t nnodes = 1;
  int64_t node_rank = 0;
  std::string dist_init_addr;
  std::string data_plane_addr = "127.0.0.1";
  std::string job_secret_file;
  int64_t dist_timeout_seconds = 60;
  std::string ranks;  // "threads", "processes" or empty: RanksAreProcesses
  bool load_mtp = false;
  std::string numerics = "auto";
  std::string ops = "cpu";
  int64_t base_gpu_id = 0;
  std::optional<int64_t> gpu_id_step;
  std::string data_plane = "auto";
  std::string sm_reserve = "auto";
  std::vector<int64_t> graph_rows;  // of decode steps that ranks on a GPU record; not a flag of its own
  std::string hop_receive;          // empty: not given
  std::string kv_cache_dtype = "auto";
  int64_t chunked_prefill_size = 8192;
  int64_t max_running_requests = 64;
  std::optional<int64_t> context_length;    // not given: the model's
  std::optional<int64_t> max_total_tokens;  // not given: what fits
  std::optional<double> mem_fraction_static;
  std::optional<int64_t> max_prefill_tokens;
  std::optional<int64_t> pp_max_micro_batch_size;
  int64_t pp_async_batch_depth = 0;
  bool enable_priority_scheduling = false;
  bool schedule_low_priority_values_first = false;
  int64_t max_queued_requests = 2048;
  std::optional<int64_t> max_queued_tokens;
  std::optional<int64_t> loader_threads;  // not given: 4, or what model_loader_extra_config says
  std::string model_loader_extra_config;  // JSON
  double watchdog_timeout_seconds = 300.0;
  double stall_report_after_seconds = 5.0;
  int64_t link_delay_ms = 0;
  std::string fault_plan;  // a file
};

void AddLayoutFlags(CLI::App& app, LayoutFlags& flags);

// The settings these flags mean for this checkpoint. Throws Error(kUsage) with a sentence that names the
// nearest combination that works; nothing given is ever overridden.
engine::JobSettings SettingsOf(const LayoutFlags& flags, const checkpoint::Checkpoint& checkpoint);

// Whether the ranks of a job of these settings are processes: where --ranks does not say, on several nodes,
// and on GPUs as cli/gpu_flags.h has it.
bool RanksAreProcesses(const LayoutFlags& flags, const engine::JobSettings& settings);

// Starts the ranks on this node (threads or processes) and, with several nodes, waits for the others.
std::unique_ptr<engine::RankSet> StartRanks(const LayoutFlags& flags, const engine::JobSettings& settings,
                                            std::shared_ptr<const checkpoint::Checkpoint> checkpoint);
engine::ProcessPlan PlanOf(const LayoutFlags& flags);

}  // namespace sluice::cli
