#include "cli/schedule_flags.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "base/checked.h"
#include "cli/human_size.h"
#include "model/shapes.h"

namespace sluice::cli {
namespace {

constexpr int64_t kWholePrompts = -1;      // --chunked-prefill-size
constexpr int64_t kLoaderThreads = 4;      // when nothing says how many
constexpr double kUsualGpuFraction = 0.9;  // --mem-fraction-static with --ops cuda

int64_t ContextOf(const LayoutFlags& f, const checkpoint::ModelConfig& config) {
  return f.context_length.value_or(config.max_position_embeddings);
}

// Tokens of cache when nothing says how many.
int64_t DefaultTotalTokens(const LayoutFlags& f, const engine::JobSettings& settings,
                           const checkpoint::Checkpoint& checkpoint) {
  const auto& config = checkpoint.config();
  const auto format = engine::CacheFormatOf(settings, checkpoint.is_fp8());
  std::ifstream meminfo("/proc/meminfo");
  const std::string text{std::istreambuf_iterator<char>(meminfo), {}};
  const int64_t free_bytes = AvailableBytes(text, HostBytes());
  // Every lane of a stage holds the whole stage's cache, so the ranks of a host together hold each layer
  // `lanes` times, less what other hosts hold.
  const int64_t token_bytes =
      model::CacheTokenBytes(config, format, 0, config.num_hidden_layers) * settings.grid.lanes;
  const int64_t fits = free_bytes / 2 * f.nnodes / std::max<int64_t>(token_bytes, 1);
  return std::max<int64_t>(ops::kPageTokens, std::min(2 * ContextOf(f, config), fits));
}

void Require(bool good, const std::string& sentence) {
  if (!good) throw Error(ErrorKind::kUsage, sentence);
}

}  // namespace

void AddScheduleFlags(CLI::App& app, LayoutFlags& f) {
  const char* group = "Memory and schedule";
  app.add_option("--chunked-prefill-size", f.chunked_prefill_size,
                 "Rows of one step; -1: prompts are not cut")
      ->transform(HumanCount())
      ->group(group);
  app.add_option("--max-prefill-tokens", f.max_prefill_tokens, "Prompt rows of one step")
      ->transform(HumanCount())
      ->group(group);
  app.add_option("--max-running-requests", f.max_running_requests, "Requests admitted at once")->group(group);
  app.add_option("--pp-max-micro-batch-size", f.pp_max_micro_batch_size, "Requests in one step")
      ->group(group);
  app.add_option("--pp-async-batch-depth", f.pp_async_batch_depth, "Steps in flight beyond the usual number")
      ->group(group);
  app.add_option("--context-length", f.context_length, "Longest prompt and answer; default the model's")
      ->transform(HumanCount())
      ->group(group);
  app.add_option("--mem-fraction-static", f.mem_fraction_static,
                 "Part of the memory of this host, or of the GPU, that its ranks may take")
      ->group(group);
  app.add_option("--max-total-tokens", f.max_total_tokens, "Tokens the cache holds; default what fits")
      ->transform(HumanCount())
      ->group(group);
  app.add_flag("--enable-priority-scheduling", f.enable_priority_scheduling,
               "Admit requests by their priority, the larger first")
      ->group(group);
  app.add_flag("--schedule-low-priority-values-first", f.schedule_low_priority_values_first,
               "The smaller priority first")
      ->group(group);
  app.add_option("--max-queued-requests", f.max_queued_requests, "Requests that may wait; more are refused")
      ->group(group);
  app.add_option("--max-queued-tokens", f.max_queued_tokens,
                 "Prompt tokens of requests that may wait; default sixteen times what the cache holds")
      ->transform(HumanCount())
      ->group(group);
  app.add_option("--loader-threads", f.loader_threads, "Threads that read the checkpoint; default 4")
      ->group(group);
  app.add_option("--model-loader-extra-config", f.model_loader_extra_config,
                 R"(The same as JSON: {"enable_multithread_load": true, "num_threads": 8})")
      ->group(group);
}

void CheckScheduleFlags(const LayoutFlags& f, const checkpoint::ModelConfig& config) {
  const auto range = [](const char* flag, int64_t value, int64_t least, int64_t most = 0) {
    const std::string values =
        most > 0 ? fmt::format("{} to {}", least, most) : fmt::format("{} or more", least);
    Require(value >= least && (most == 0 || value <= most),
            fmt::format("{} {} is out of range: use {}", flag, value, values));
  };
  Require(f.chunked_prefill_size >= 1 || f.chunked_prefill_size == kWholePrompts,
          fmt::format("--chunked-prefill-size {} is out of range: use 1 or more, or -1 for whole prompts",
                      f.chunked_prefill_size));
  range("--max-running-requests", f.max_running_requests, 1);
  if (f.context_length) range("--context-length", *f.context_length, 1);
  if (f.max_total_tokens) {
    range("--max-total-tokens", *f.max_total_tokens, 1,
          int64_t{std::numeric_limits<int32_t>::max()} * ops::kPageTokens);
  }
  range("--pp-async-batch-depth", f.pp_async_batch_depth, 0, 64);
  if (f.loader_threads) range("--loader-threads", *f.loader_threads, 1, 64);
  range("--max-queued-requests", f.max_queued_requests, 1);
  if (f.max_queued_tokens) range("--max-queued-tokens", *f.max_queued_tokens, 1);
  Require(f.enable_priority_scheduling || !f.schedule_low_priority_values_first,
          "--schedule-low-priority-values-first says how priorities are ordered, and without "
          "--enable-priority-scheduling there are none: give both or neither");
  if (f.max_prefill_tokens) range("--max-prefill-tokens", *f.max_prefill_tokens, 1);
  if (f.pp_max_micro_batch_size) {
    range("--pp-max-micro-batch-size", *f.pp_max_micro_batch_size, 1, f.max_running_requests);
  }
  const int64_t context = ContextOf(f, config);
  Require(context <= config.max_position_embeddings,
          fmt::format("--context-length {} is more than the model's {}: use {} or less", context,
                      config.max_position_embeddings, config.max_position_embeddings));
  Require(
      f.chunked_prefill_size != kWholePrompts || !f.max_prefill_tokens || *f.max_prefill_tokens >= context,
      fmt::format(
          "--chunked-prefill-size -1 leaves prompts whole, and --max-prefill-tokens {} would cut those of "
          "up to {} tokens: use --max-prefill-tokens {} or leave it out",
          f.max_prefill_tokens.value_or(0), context, context));
  if (f.mem_fraction_static) {
    Require(
        *f.mem_fraction_static > 0.0 && *f.mem_fraction_static <= 1.0,
        fmt::format("--mem-fraction-static {} is out of range: use a part of the memory above 0, at most 1",
                    *f.mem_fraction_static));
    Require(
        !f.max_total_tokens,
        "--mem-fraction-static and --max-total-tokens both say how much the cache holds: give one of them");
  }
}

int LoaderThreadsOf(const LayoutFlags& f) {
  if (f.model_loader_extra_config.empty()) return static_cast<int>(f.loader_threads.value_or(kLoaderThreads));
  const auto refuse = [&](const std::string& why) {
    Fail(ErrorKind::kUsage,
         "--model-loader-extra-config {} {}: use an object such as "
         R"({{"enable_multithread_load": true, "num_threads": 8}})",
         f.model_loader_extra_config, why);
  };
  Require(!f.loader_threads,
          "--loader-threads and --model-loader-extra-config both say how many threads read the checkpoint: "
          "give one of them");
  const auto json = nlohmann::json::parse(f.model_loader_extra_config, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) refuse("is not a JSON object");
  bool many = false;
  int64_t threads = 8;  // what the reference system takes when the count is left out
  for (const auto& [key, value] : json.items()) {
    if (key == "enable_multithread_load") {
      if (!value.is_boolean()) refuse("has an enable_multithread_load that is not true or false");
      many = value.get<bool>();
    } else if (key == "num_threads") {
      if (!value.is_number_integer() || value.get<int64_t>() < 1 || value.get<int64_t>() > 64) {
        refuse("has a num_threads that is not 1 to 64");
      }
      threads = value.get<int64_t>();
    } else {
      refuse(fmt::format("has a key \"{}\", which is neither enable_multithread_load nor num_threads", key));
    }
  }
  if (!many && json.contains("num_threads") && threads > 1) {
    refuse("asks for threads without enable_multithread_load");
  }
  return many ? static_cast<int>(threads) : 1;
}

step::StepLimits LargestStepOf(const LayoutFlags& f, const checkpoint::ModelConfig& config) {
  const int64_t context = ContextOf(f, config);
  step::StepLimits limits;
  limits.rows =
      f.chunked_prefill_size == kWholePrompts ? context + f.max_running_requests - 1 : f.chunked_prefill_size;
  limits.sequences = std::min(limits.rows, f.pp_max_micro_batch_size.value_or(f.max_running_requests));
  limits.positions = context;
  return limits;
}

int64_t CachePagesOf(const LayoutFlags& f, const engine::JobSettings& settings,
                     const checkpoint::Checkpoint& checkpoint) {
  if (settings.ops == "cuda") return GpuMemoryOf(f, settings, checkpoint).front().pages;
  if (f.mem_fraction_static) return MemoryOf(f, settings, checkpoint).pages;
  const int64_t tokens =
      f.max_total_tokens ? *f.max_total_tokens : DefaultTotalTokens(f, settings, checkpoint);
  return CeilDiv(tokens, ops::kPageTokens);
}

MemoryPlan MemoryOf(const LayoutFlags& f, const engine::JobSettings& settings,
                    const checkpoint::Checkpoint& checkpoint) {
  return PlanMemory(settings, checkpoint, HostBytes(), settings.grid.world() / f.nnodes,
                    !RanksAreProcesses(f, settings), f.mem_fraction_static.value_or(0.0));
}

namespace {

// What the driver says of a GPU before anything of this job is on it, asked once. A process without ranks of
// its own does not stay there.
ops::cuda::MemoryInfo BeforeAnything(int gpu, bool leave) {
  static std::map<int, ops::cuda::MemoryInfo> asked;
  const auto found = asked.find(gpu);
  if (found != asked.end()) return found->second;
  const ops::cuda::MemoryInfo info = asked[gpu] = ops::cuda::MemoryOf(gpu);
  if (leave) ops::cuda::LeaveDevice(gpu);
  return info;
}

}  // namespace

std::vector<GpuMemoryPlan> GpuMemoryOf(const LayoutFlags& f, const engine::JobSettings& settings,
                                       const checkpoint::Checkpoint& checkpoint) {
  const double fraction = f.mem_fraction_static.value_or(f.max_total_tokens ? 0.0 : kUsualGpuFraction);
  const bool processes = RanksAreProcesses(f, settings);
  const int64_t cards = settings.gpu_step > 0 ? settings.grid.world() / f.nnodes : 1;
  std::vector<HostGpu> gpus;
  for (int64_t card = 0; card < cards; ++card) {
    const int gpu = settings.gpu + static_cast<int>(card) * settings.gpu_step;
    gpus.push_back({gpu, BeforeAnything(gpu, processes)});
  }
  return PlanHostGpus(gpus, engine::MemoryOfRanks(settings, checkpoint, !processes),
                      static_cast<int>(f.nnodes), static_cast<int>(f.node_rank), processes, fraction,
                      CeilDiv(f.max_total_tokens.value_or(0), ops::kPageTokens));
}

engine::EngineOptions EngineOptionsOf(const LayoutFlags& f, const engine::JobSettings& settings) {
  const int64_t whole =
      settings.ops == "cuda" ? settings.largest_step.rows : settings.cache_pages * ops::kPageTokens;
  engine::EngineOptions options;
  options.chunk_rows = f.chunked_prefill_size == kWholePrompts ? whole : f.chunked_prefill_size;
  options.max_running = f.max_running_requests;
  options.context_length = f.context_length.value_or(0);
  options.prefill_rows = f.max_prefill_tokens.value_or(0);
  options.step_sequences = f.pp_max_micro_batch_size.value_or(0);
  options.by_priority = f.enable_priority_scheduling;
  options.low_values_first = f.schedule_low_priority_values_first;
  options.max_queued = f.max_queued_requests;
  options.max_queued_tokens = f.max_queued_tokens.value_or(0);
  return options;
}

}  // namespace sluice::cli
