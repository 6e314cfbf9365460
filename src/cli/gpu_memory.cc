#include "cli/gpu_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"

namespace sluice::cli {
namespace {

double InGiB(int64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(int64_t{1} << 30); }

int64_t SumOf(const std::vector<engine::RankMemory>& ranks, int64_t pages) {
  int64_t bytes = 0;
  for (const engine::RankMemory& rank : ranks) bytes += rank.Sum(pages);
  return bytes;
}

[[noreturn]] void Refuse(const GpuMemoryPlan& plan, int64_t allowed) {
  const int64_t least = plan.context_bytes() + SumOf(plan.ranks, std::max<int64_t>(1, plan.pages));
  const std::string smaller =
      "a smaller --chunked-prefill-size, fewer ranks on this GPU, or one with more memory";
  if (plan.fraction == 0.0) {
    Fail(ErrorKind::kMemory,
         "GPU {} has {:.2f} GiB free, and its ranks ({}) need {:.2f} GiB with the {} tokens of "
         "--max-total-tokens: use fewer tokens, {}\n{}",
         plan.gpu, InGiB(plan.before.free_bytes), plan.ranks.size(), InGiB(plan.planned_bytes()),
         plan.pages * ops::kPageTokens, smaller, plan.Table());
  }
  const double enough =
      std::ceil(static_cast<double>(least) / static_cast<double>(plan.before.total_bytes) * 1000.0) / 1000.0;
  Fail(ErrorKind::kMemory,
       "--mem-fraction-static {} of the {:.2f} GiB of GPU {} is {:.2f} GiB, and {:.2f} GiB are needed for "
       "what "
       "is in use, the weights, activations and workspace of its ranks ({}) and one page of cache for each: "
       "use "
       "{}{}\n{}",
       plan.fraction, InGiB(plan.before.total_bytes), plan.gpu, InGiB(allowed), InGiB(least),
       plan.ranks.size(), enough <= 1.0 ? fmt::format("{:.3f} or more, ", enough) : "", smaller,
       plan.Table());
}

}  // namespace

int64_t GpuMemoryPlan::planned_bytes() const { return SumOf(ranks, pages); }

std::string GpuMemoryPlan::Table() const {
  std::string table = fmt::format("{:<24}", fmt::format("memory of GPU {} in GiB", gpu));
  for (size_t rank = 0; rank < ranks.size(); ++rank)
    table += fmt::format("{:>9}", fmt::format("rank {}", rank));
  table += fmt::format("{:>9}\n", "card");
  const auto row = [&](const char* name, const std::function<int64_t(const engine::RankMemory&)>& of) {
    table += fmt::format("  {:<22}", name);
    int64_t sum = 0;
    for (const engine::RankMemory& rank : ranks) {
      table += fmt::format("{:>9.2f}", InGiB(of(rank)));
      sum += of(rank);
    }
    table += fmt::format("{:>9.2f}\n", InGiB(sum));
  };
  const auto of_card = [&](const char* name, int64_t bytes) {
    table += fmt::format("  {:<{}}{:>9.2f}\n", name, 22 + 9 * ranks.size(), InGiB(bytes));
  };
  row("weights", [](const engine::RankMemory& rank) { return rank.weights; });
  row("cache", [&](const engine::RankMemory& rank) { return pages * rank.page; });
  row("activations", [](const engine::RankMemory& rank) { return rank.activations; });
  row("workspace", [](const engine::RankMemory& rank) { return rank.workspace; });
  row("ranks together", [&](const engine::RankMemory& rank) { return rank.Sum(pages); });
  of_card("context, and others", context_bytes());
  of_card("free", free_bytes());
  of_card("the driver's total", before.total_bytes);
  table += fmt::format("  cache of {} pages, {} tokens on every rank", pages, pages * ops::kPageTokens);
  return table;
}

GpuMemoryPlan PlanGpuMemory(int gpu, const ops::cuda::MemoryInfo& before,
                            std::vector<engine::RankMemory> ranks, double fraction, int64_t pages) {
  GpuMemoryPlan plan{gpu, before, std::move(ranks), fraction, pages};
  int64_t allowed = before.total_bytes;
  if (fraction > 0.0) {
    allowed = static_cast<int64_t>(fraction * static_cast<double>(before.total_bytes));
    int64_t pages_together = 0;  // bytes of one page on every rank
    for (const engine::RankMemory& rank : plan.ranks) pages_together += rank.page;
    plan.pages = std::max<int64_t>(
        0, (allowed - plan.context_bytes() - SumOf(plan.ranks, 0)) / std::max<int64_t>(1, pages_together));
  }
  if (plan.pages < 1 || plan.context_bytes() + plan.planned_bytes() > allowed) Refuse(plan, allowed);
  return plan;
}

}  // namespace sluice::cli
