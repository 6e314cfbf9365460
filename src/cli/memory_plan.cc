#include "cli/memory_plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "engine/rank_host.h"
#include "model/shapes.h"
#include "model/weight_bytes.h"

namespace sluice::cli {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

double InGiB(int64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(kGiB); }

// What one rank holds.
struct Need {
  int rank = 0;
  int64_t weight_bytes = 0;
  int64_t token_bytes = 0;
  int64_t mtp_bytes = 0;  // of weight_bytes

  int64_t page_bytes() const { return token_bytes * ops::kPageTokens; }
  int64_t least_bytes() const { return weight_bytes + page_bytes(); }
};

Need NeedOf(const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint,
            ops::Numerics numerics, int rank) {
  const auto& config = checkpoint.config();
  const model::StageSlice slice = pipeline::SliceOf(engine::RankOptionsOf(settings, config, rank));
  const ops::CacheFormat format = engine::CacheFormatOf(settings, checkpoint.is_fp8());
  Need need{rank, model::WeightBytes(checkpoint, numerics, slice), 0,
            model::NextnWeightBytes(checkpoint, numerics, slice)};
  for (const parallel::LayerRange& range : slice.layers) {
    need.token_bytes += model::CacheTokenBytes(config, format, range.begin, range.end);
  }
  return need;
}

}  // namespace

int64_t MemoryPlan::cache_bytes() const { return pages * ops::kPageTokens * token_bytes; }

std::string MemoryPlan::Line() const {
  const std::string share =
      fraction > 0.0
          ? fmt::format("{:.2f} GiB of this host x {} / {} ranks = {:.2f} GiB each: ", InGiB(host_bytes),
                        fraction, ranks, InGiB(rank_bytes))
          : fmt::format("{:.2f} GiB on this host, {} ranks, each ", InGiB(host_bytes), ranks);
  return fmt::format(
      "memory: {}weights {:.2f} GiB{}, cache up to {:.2f} GiB = {} pages = {} tokens of {} bytes; pages are "
      "committed "
      "on first touch",
      share, InGiB(weight_bytes),
      mtp_bytes > 0
          ? fmt::format(" (those of MTP layers on a rank of the last stage {:.3f} GiB)", InGiB(mtp_bytes))
          : "",
      InGiB(cache_bytes()), pages, pages * ops::kPageTokens, token_bytes);
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
  const ops::Numerics numerics = engine::NumericsOf(settings.numerics, checkpoint.is_fp8());
  MemoryPlan plan{host_bytes, ranks_of_host, fraction};
  plan.rank_bytes =
      static_cast<int64_t>(fraction * static_cast<double>(host_bytes) / static_cast<double>(ranks_of_host));
  plan.pages = std::numeric_limits<int32_t>::max();
  Need most;
  for (int rank = 0; rank < settings.grid.world(); ++rank) {
    const Need need = NeedOf(settings, checkpoint, numerics, rank);
    plan.mtp_bytes = std::max(plan.mtp_bytes, need.mtp_bytes);
    if (need.least_bytes() > most.least_bytes()) most = need;
    const int64_t pages =
        fraction > 0.0 ? (plan.rank_bytes - need.weight_bytes) / need.page_bytes() : settings.cache_pages;
    if (pages < plan.pages || (pages == plan.pages && need.weight_bytes > plan.weight_bytes)) {
      plan.pages = pages;
      plan.weight_bytes = need.weight_bytes;
      plan.token_bytes = need.token_bytes;
    }
  }
  if (fraction > 0.0 && most.least_bytes() > plan.rank_bytes) {
    const double least = static_cast<double>(most.least_bytes()) * static_cast<double>(ranks_of_host) /
                         static_cast<double>(host_bytes);
    Fail(ErrorKind::kUsage,
         "--mem-fraction-static {} of this host's {:.2f} GiB, divided by its {} ranks, is {:.3f} GiB, and "
         "rank {} needs {:.3f} GiB for its weights and one page of cache: {}",
         fraction, InGiB(host_bytes), ranks_of_host, InGiB(plan.rank_bytes), most.rank,
         InGiB(most.least_bytes()),
         least <= 1.0 ? fmt::format("use {:.3f} or more", std::ceil(least * 1000.0) / 1000.0)
                      : "use fewer ranks on a host, or more hosts");
  }
  return plan;
}

}  // namespace sluice::cli
