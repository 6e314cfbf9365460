#include "cli/memory_plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "model/shapes.h"
#include "model/weight_bytes.h"

namespace sluice::cli {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

double InGiB(int64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(kGiB); }

// The slice of the model that `rank` holds.
model::StageSlice SliceOf(const engine::JobSettings& settings, const checkpoint::ModelConfig& config,
                          int rank) {
  const int stage = settings.grid.StageOf(rank);
  return {engine::LayerCutOf(settings, config)[stage], settings.grid.LaneOf(rank), settings.grid.lanes,
          stage == 0, stage == settings.grid.stages - 1};
}

}  // namespace

int64_t MemoryPlan::cache_bytes() const { return pages * ops::kPageTokens * token_bytes; }

std::string MemoryPlan::Line() const {
  const std::string share =
      fraction > 0.0 ? fmt::format("{:.2f} GiB of this host x {} / {} ranks = {:.2f} GiB each: ", InGiB(host_bytes),
                                   fraction, ranks, InGiB(rank_bytes))
                     : fmt::format("{:.2f} GiB on this host, {} ranks, each ", InGiB(host_bytes), ranks);
  return fmt::format(
      "memory: {}weights {:.2f} GiB, cache up to {:.2f} GiB = {} pages = {} tokens of {} bytes; pages are committed "
      "on first touch",
      share, InGiB(weight_bytes), InGiB(cache_bytes()), pages, pages * ops::kPageTokens, token_bytes);
}

int64_t HostBytes() {
  int64_t bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  int64_t allowed = 0;  // the file says "max" where there is no limit
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> allowed) bytes = std::min(bytes, allowed);
  // Machines of one kind differ by what their firmware keeps; their ranks should agree.
  return bytes < kGiB ? bytes : bytes / kGiB * kGiB;
}

MemoryPlan PlanMemory(const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint,
                      int64_t host_bytes, int64_t ranks_of_host, double fraction) {
  const auto& config = checkpoint.config();
  const ops::Numerics numerics = engine::NumericsOf(settings.numerics, checkpoint.is_fp8());
  MemoryPlan plan{host_bytes, ranks_of_host, fraction};
  plan.rank_bytes = static_cast<int64_t>(fraction * static_cast<double>(host_bytes) /
                                         static_cast<double>(ranks_of_host));
  plan.pages = std::numeric_limits<int64_t>::max();
  for (int rank = 0; rank < settings.grid.world(); ++rank) {
    const model::StageSlice slice = SliceOf(settings, config, rank);
    const int64_t weights = model::WeightBytes(checkpoint, numerics, slice);
    const int64_t layers = slice.layers.end - slice.layers.begin;
    const int64_t token_bytes = std::max<int64_t>(1, model::CacheShapeOf(config, numerics).token_bytes() * layers);
    const int64_t page_bytes = token_bytes * ops::kPageTokens;
    const int64_t pages = fraction > 0.0 ? (plan.rank_bytes - weights) / page_bytes : settings.cache_pages;
    if (fraction > 0.0 && plan.rank_bytes < weights + page_bytes) {
      const double least = static_cast<double>(weights + page_bytes) * static_cast<double>(ranks_of_host) /
                           static_cast<double>(host_bytes);
      Fail(ErrorKind::kUsage,
           "--mem-fraction-static {} of this host's {:.2f} GiB, divided by its {} ranks, is {:.3f} GiB, and rank {} "
           "needs {:.3f} GiB for its weights and one page of cache: {}",
           fraction, InGiB(host_bytes), ranks_of_host, InGiB(plan.rank_bytes), rank,
           InGiB(weights + page_bytes),
           least <= 1.0 ? fmt::format("use {:.3f} or more", std::ceil(least * 1000.0) / 1000.0)
                        : "use fewer ranks on a host, or more hosts");
    }
    if (pages < plan.pages || (pages == plan.pages && weights > plan.weight_bytes)) {
      plan.pages = pages;
      plan.weight_bytes = weights;
      plan.token_bytes = token_bytes;
    }
  }
  plan.pages = std::min<int64_t>(plan.pages, std::numeric_limits<int32_t>::max());
  return plan;
}

}  // namespace sluice::cli
