#include "cli/memory_plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/human_size.h"
#include "engine/rank_host.h"
#include "model/shapes.h"
#include "model/weight_bytes.h"

namespace sluice::cli {
namespace {

// What one process holds: a rank, or all of them.
struct Need {
  std::string whose;
  int64_t weight_bytes = 0;
  int64_t token_bytes = 0;
  int64_t mtp_bytes = 0;  // of weight_bytes

  int64_t page_bytes() const { return token_bytes * ops::kPageTokens; }
  int64_t least_bytes() const { return weight_bytes + page_bytes(); }
};

std::vector<Need> NeedsOf(const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint,
                          bool threads) {
  const auto& config = checkpoint.config();
  const ops::Numerics numerics = engine::NumericsOf(settings.numerics, checkpoint.is_fp8());
  const ops::CacheFormat format = engine::CacheFormatOf(settings, checkpoint.is_fp8());
  std::vector<Need> needs;
  std::set<std::string> counted;  // weights that threads hold alike
  for (int rank = 0; rank < settings.grid.world(); ++rank) {
    if (needs.empty() || !threads) needs.push_back({fmt::format("rank {} needs", rank)});
    Need& need = needs.back();
    const model::StageSlice slice = pipeline::SliceOf(engine::RankOptionsOf(settings, config, rank));
    model::StageSlice answering = slice;
    answering.nextn = false;
    std::set<std::string>* held = threads ? &counted : nullptr;
    const int64_t answers = model::WeightBytes(checkpoint, numerics, answering, held);
    const int64_t mtp = model::NextnWeightBytes(checkpoint, numerics, slice, held);
    need.weight_bytes += answers + mtp;
    need.mtp_bytes += mtp;
    for (const parallel::LayerRange& range : slice.layers) {
      need.token_bytes += model::CacheTokenBytes(config, format, range.begin, range.end);
    }
  }
  if (threads && settings.grid.world() > 1) needs.back().whose = "they together need";
  return needs;
}

}  // namespace

int64_t MemoryPlan::cache_bytes() const { return pages * ops::kPageTokens * token_bytes; }

std::string MemoryPlan::Line() const {
  const bool together = threads && ranks > 1;
  const std::string host =
      fmt::format("{:.2f} GiB {} this host", InGiB(host_bytes), fraction > 0.0 ? "of" : "on");
  const std::string share =
      fraction == 0.0 ? fmt::format("{}, {} ranks, {} ", host, ranks, together ? "together" : "each")
      : together
          ? fmt::format("{} x {} = {:.2f} GiB for {} ranks together: ", host, fraction, InGiB(share_bytes),
                        ranks)
          : fmt::format("{} x {} / {} ranks = {:.2f} GiB each: ", host, fraction, ranks, InGiB(share_bytes));
  return fmt::format(
      "memory: {}weights {:.2f} GiB{}, cache up to {:.2f} GiB = {} pages = {} tokens of {} bytes; "
      "pages are committed on first touch",
      share, InGiB(weight_bytes),
      mtp_bytes > 0 ? fmt::format(" (those of MTP layers {} {:.3f} GiB)",
                                  together ? "together" : "on a rank of the last stage", InGiB(mtp_bytes))
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

int64_t AvailableBytes(std::string_view meminfo, int64_t host_bytes) {
  constexpr std::string_view kName = "MemAvailable:";
  const std::size_t at = meminfo.find(kName);
  if (at == std::string_view::npos) return 0;
  std::string_view rest = meminfo.substr(at + kName.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  int64_t kib = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), kib);
  return std::min(kib * 1024, host_bytes);
}

MemoryPlan PlanMemory(const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint,
                      int64_t host_bytes, int64_t ranks_of_host, bool threads, double fraction) {
  MemoryPlan plan{host_bytes, ranks_of_host, threads, fraction};
  const int64_t processes = threads ? 1 : ranks_of_host;
  plan.share_bytes =
      static_cast<int64_t>(fraction * static_cast<double>(host_bytes) / static_cast<double>(processes));
  plan.pages = std::numeric_limits<int32_t>::max();
  Need most;
  for (const Need& need : NeedsOf(settings, checkpoint, threads)) {
    plan.mtp_bytes = std::max(plan.mtp_bytes, need.mtp_bytes);
    if (need.least_bytes() > most.least_bytes()) most = need;
    const int64_t pages =
        fraction > 0.0 ? (plan.share_bytes - need.weight_bytes) / need.page_bytes() : settings.cache_pages;
    if (pages < plan.pages || (pages == plan.pages && need.weight_bytes > plan.weight_bytes)) {
      plan.pages = pages;
      plan.weight_bytes = need.weight_bytes;
      plan.token_bytes = need.token_bytes;
    }
  }
  if (fraction > 0.0 && most.least_bytes() > plan.share_bytes) {
    const double least = static_cast<double>(most.least_bytes()) * static_cast<double>(processes) /
                         static_cast<double>(host_bytes);
    Fail(ErrorKind::kUsage,
         "--mem-fraction-static {} of this host's {:.2f} GiB, {} its {} ranks, is {:.3f} GiB, and {} "
         "{:.3f} GiB for weights and one page of cache{}: {}",
         fraction, InGiB(host_bytes), threads ? "for" : "divided by", ranks_of_host, InGiB(plan.share_bytes),
         most.whose, InGiB(most.least_bytes()), threads && ranks_of_host > 1 ? " on each" : "",
         least <= 1.0 ? fmt::format("use {:.3f} or more", std::ceil(least * 1000.0) / 1000.0)
                      : "use fewer ranks on a host, or more hosts");
  }
  return plan;
}

}  // namespace sluice::cli
