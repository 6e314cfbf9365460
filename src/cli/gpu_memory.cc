#include "cli/gpu_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "cli/human_size.h"

namespace sluice::cli {
namespace {

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

namespace {

// Lines of a name and a figure for each column.
class Table {
 public:
  Table(std::string title, size_t columns) : text_(fmt::format("{:<24}", title)), columns_(columns) {}
  void Title(const std::string& column) { text_ += fmt::format("{:>9}", column); }
  void Row(const char* name, const std::vector<int64_t>& bytes) {
    text_ += fmt::format("\n  {:<22}", name);
    for (const int64_t each : bytes) text_ += fmt::format("{:>9.2f}", InGiB(each));
  }
  // Of the last column alone.
  void OfCard(const char* name, int64_t bytes) {
    text_ += fmt::format("\n  {:<{}}{:>9.2f}", name, 22 + 9 * (columns_ - 1), InGiB(bytes));
  }
  std::string End(int64_t pages) const {
    return text_ +
           fmt::format("\n  cache of {} pages, {} tokens on every rank", pages, pages * ops::kPageTokens);
  }

 private:
  std::string text_;
  const size_t columns_;
};

using OfRank = std::function<int64_t(const engine::RankMemory&)>;

bool HoldsMtp(const std::vector<engine::RankMemory>& ranks) {
  return std::ranges::any_of(ranks, [](const auto& rank) { return rank.mtp_weights > 0; });
}

// The rows that ranks have, by name. NCCL's and that of MTP layers only where there is one.
std::vector<std::pair<const char*, OfRank>> RowsOfRanks(int64_t pages, bool nccl, bool mtp) {
  std::vector<std::pair<const char*, OfRank>> rows = {
      {"weights", [](const auto& rank) { return rank.weights - rank.mtp_weights; }}};
  if (mtp) rows.emplace_back("weights of MTP layers", [](const auto& rank) { return rank.mtp_weights; });
  const std::vector<std::pair<const char*, OfRank>> others = {
      {"cache", [pages](const auto& rank) { return pages * rank.page; }},
      {"activations", [](const auto& rank) { return rank.activations; }},
      {"workspace", [](const auto& rank) { return rank.workspace; }}};
  rows.insert(rows.end(), others.begin(), others.end());
  if (nccl) rows.emplace_back("NCCL, at most", [](const auto& rank) { return rank.data_plane; });
  return rows;
}

}  // namespace

std::string GpuMemoryPlan::Table() const {
  cli::Table table(fmt::format("memory of GPU {} in GiB", gpu), ranks.size() + 1);
  for (size_t i = 0; i < ranks.size(); ++i)
    table.Title(fmt::format("rank {}", first_rank + static_cast<int>(i)));
  table.Title("card");
  auto rows = RowsOfRanks(pages, ranks.front().data_plane > 0, HoldsMtp(ranks));
  rows.emplace_back("ranks together", [this](const auto& rank) { return rank.Sum(pages); });
  for (const auto& [name, of] : rows) {
    std::vector<int64_t> bytes;
    for (const engine::RankMemory& rank : ranks) bytes.push_back(of(rank));
    bytes.push_back(std::accumulate(bytes.begin(), bytes.end(), int64_t{0}));
    table.Row(name, bytes);
  }
  table.OfCard(more_contexts > 0 ? "contexts, and others" : "context, and others", context_bytes());
  table.OfCard("free", free_bytes());
  table.OfCard("the driver's total", before.total_bytes);
  return table.End(pages);
}

std::string TableOf(const std::vector<GpuMemoryPlan>& plans) {
  if (plans.size() == 1) return plans.front().Table();
  const int64_t pages = plans.front().pages;
  cli::Table table("memory of GPUs in GiB", plans.size());
  for (const GpuMemoryPlan& plan : plans) table.Title(fmt::format("GPU {}", plan.gpu));
  const auto row = [&](const char* name, const std::function<int64_t(const GpuMemoryPlan&)>& of) {
    std::vector<int64_t> bytes;
    for (const GpuMemoryPlan& plan : plans) bytes.push_back(of(plan));
    table.Row(name, bytes);
  };
  const bool mtp = std::ranges::any_of(plans, [](const auto& plan) { return HoldsMtp(plan.ranks); });
  for (const auto& [name, of] : RowsOfRanks(pages, plans.front().ranks.front().data_plane > 0, mtp)) {
    row(name, [&of](const GpuMemoryPlan& plan) { return of(plan.ranks.front()); });
  }
  row("rank's sum", [](const GpuMemoryPlan& plan) { return plan.planned_bytes(); });
  row("context, and others", [](const GpuMemoryPlan& plan) { return plan.context_bytes(); });
  row("free", [](const GpuMemoryPlan& plan) { return plan.free_bytes(); });
  row("the driver's total", [](const GpuMemoryPlan& plan) { return plan.before.total_bytes; });
  return table.End(pages);
}

GpuMemoryPlan PlanGpuMemory(int gpu, const ops::cuda::MemoryInfo& before,
                            std::vector<engine::RankMemory> ranks, double fraction, int64_t pages,
                            int first_rank, int more_contexts) {
  GpuMemoryPlan plan{gpu, before, std::move(ranks), fraction, pages, first_rank, more_contexts};
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

std::vector<GpuMemoryPlan> PlanHostGpus(const std::vector<HostGpu>& gpus,
                                        const std::vector<engine::RankMemory>& ranks, int nodes, int node,
                                        bool processes, double fraction, int64_t pages) {
  const auto per_gpu = std::ssize(ranks) / nodes / std::ssize(gpus);
  const auto plan = [&](int64_t card, double part, int64_t given) {
    HostGpu at = gpus[static_cast<size_t>(card % std::ssize(gpus))];
    if (nodes > 1) {
      const int64_t used = at.before.total_bytes - at.before.free_bytes;
      at.before.free_bytes = at.before.total_bytes - CeilDiv(used, kGiB) * kGiB;
    }
    const auto first = ranks.begin() + card * per_gpu;
    return PlanGpuMemory(at.gpu, at.before, {first, first + per_gpu}, part, given,
                         static_cast<int>(card * per_gpu), processes ? static_cast<int>(per_gpu) - 1 : 0);
  };
  int64_t fit = std::numeric_limits<int64_t>::max();
  for (int64_t card = 0; card < nodes * std::ssize(gpus); ++card) {
    fit = std::min(fit, plan(card, fraction, pages).pages);
  }
  std::vector<GpuMemoryPlan> here;
  for (int64_t card = 0; card < std::ssize(gpus); ++card) {
    here.push_back(plan(node * std::ssize(gpus) + card, 0.0, fit));
  }
  return here;
}

}  // namespace sluice::cli
