#include "cli/describe_job.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "checkpoint/nextn.h"
#include "cli/gpu_memory.h"
#include "cli/schedule_flags.h"
#include "engine/selection_crossings.h"

namespace sluice::cli {
namespace {

// How the ranks of this host use its GPUs, as a line.
std::string RanksOnGpus(const LayoutFlags& flags, const engine::JobSettings& settings) {
  const int64_t here = settings.grid.world() / flags.nnodes;
  const bool own_gpus = settings.gpu_step != 0 && here > 1;  // between which `auto` copies
  const bool copies =
      settings.grid.stages > 1 && (settings.hop_receive == engine::HopReceive::kCopy ||
                                   (settings.hop_receive == engine::HopReceive::kAuto && own_gpus));
  const std::string plane =
      fmt::format("{}{}", settings.data_plane == engine::DataPlane::kNccl ? "NCCL" : "host memory",
                  copies ? ", to the next stage by copies where GPUs can" : "");
  if (!RanksAreProcesses(flags, settings)) {
    return fmt::format("ranks: {} thread{} on GPU {}", here, here == 1 ? "" : "s", settings.gpu);
  }
  if (!own_gpus) {
    return fmt::format("ranks: {} process{} on GPU {}, rows through {}", here, here == 1 ? "" : "es",
                       settings.gpu, plane);
  }
  return fmt::format("ranks: {} processes, one each on GPUs {} to {}, rows through {}", here, settings.gpu,
                     settings.gpu + (here - 1) * settings.gpu_step, plane);
}

// What becomes of the model's multi-token-prediction layers, for the log; empty if it has none.
std::string MtpLine(const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint) {
  if (!settings.load_nextn) return checkpoint::SkippedNextnLine(checkpoint, "--load-mtp loads them");
  return fmt::format(
      "multi-token-prediction layers {} are loaded by the ranks of the last stage, {} tensors; nothing is "
      "drafted with them yet",
      fmt::join(checkpoint::NextnLayers(checkpoint.config()), ", "), checkpoint.nextn_tensor_count());
}

}  // namespace

void DescribeJob(const LayoutFlags& layout, const ReferenceFlags& reference,
                 const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint,
                 const std::vector<std::string>& notes) {
  const engine::EngineOptions options = EngineOptionsOf(layout, settings);
  const int64_t context =
      options.context_length > 0 ? options.context_length : checkpoint.config().max_position_embeddings;
  if (settings.ops == "cuda") {
    spdlog::info("{}", RanksOnGpus(layout, settings));
    spdlog::info("{}", TableOf(GpuMemoryOf(layout, settings, checkpoint)));
  } else {
    spdlog::info("{}", MemoryOf(layout, settings, checkpoint).Line());
  }
  spdlog::info(
      "max_total_num_tokens={}, chunked_prefill_size={}, max_prefill_tokens={}, max_running_requests={}, "
      "context_len={}, steps_in_flight={}",
      settings.cache_pages * ops::kPageTokens, layout.chunked_prefill_size,
      options.prefill_rows > 0 ? options.prefill_rows : options.chunk_rows, options.max_running, context,
      settings.max_steps_in_flight);
  const std::string selections =
      engine::SelectionLine(checkpoint.config(), engine::LayerCutOf(settings, checkpoint.config()),
                            engine::NumericsOf(settings.numerics, checkpoint.is_fp8()));
  if (!selections.empty()) spdlog::info("{}", selections);
  if (const std::string mtp = MtpLine(settings, checkpoint); !mtp.empty()) spdlog::info("{}", mtp);
  spdlog::info("sparse attention: prefill {}, decode {}; both are the {} back end's one kernel",
               reference.nsa_prefill_backend.empty() ? "by default" : reference.nsa_prefill_backend,
               reference.nsa_decode_backend.empty() ? "by default" : reference.nsa_decode_backend,
               settings.ops);
  if (notes.empty()) return;
  spdlog::info("given, and so anyway or without effect on this back end:");
  for (const std::string& note : notes) spdlog::info("  {}", note);
}

}  // namespace sluice::cli
