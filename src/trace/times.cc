#include "trace/times.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace sluice::trace {

int64_t& Times::operator[](Part part) {
  switch (part) {
    case Part::kCompute:
      return compute_ns;
    case Part::kWait:
      return wait_ns;
    case Part::kHop:
      return hop_ns;
    case Part::kIdle:
      break;
  }
  return idle_ns;
}

Times Times::operator-(const Times& before) const {
  return {compute_ns - before.compute_ns, wait_ns - before.wait_ns, hop_ns - before.hop_ns,
          idle_ns - before.idle_ns};
}

std::optional<BusyShares> BusySharesOf(std::span<const BusyPeriod> by_rank, std::span<const int32_t> stages) {
  SLUICE_CHECK(by_rank.size() == stages.size(), "{} busy periods, {} stages", by_rank.size(), stages.size());
  int64_t latest = -1;
  for (const BusyPeriod& period : by_rank) latest = std::max(latest, period.step);
  if (latest < 0) return std::nullopt;
  int64_t begin_ns = std::numeric_limits<int64_t>::max();
  int64_t end_ns = std::numeric_limits<int64_t>::min();
  for (const BusyPeriod& period : by_rank) {
    if (period.step != latest) continue;
    begin_ns = std::min(begin_ns, period.begin_ns);
    end_ns = std::max(end_ns, period.end_ns);
  }
  const int64_t extent_ns = std::max<int64_t>(end_ns - begin_ns, 1);

  const auto shares_of = [&](int32_t stage) {  // -1: of all
    Shares shares;
    int64_t ranks = 0;
    for (size_t rank = 0; rank < by_rank.size(); ++rank) {
      if (stage >= 0 && stages[rank] != stage) continue;
      ++ranks;
      if (by_rank[rank].step != latest) continue;
      shares.compute += static_cast<double>(by_rank[rank].times.compute_ns);
      shares.wait += static_cast<double>(by_rank[rank].times.wait_ns);
      shares.hop += static_cast<double>(by_rank[rank].times.hop_ns);
    }
    const double all = static_cast<double>(extent_ns) * static_cast<double>(ranks);
    shares.compute /= all;
    shares.wait /= all;
    shares.hop /= all;
    shares.idle = std::max(0.0, 1.0 - shares.compute - shares.wait - shares.hop);
    return shares;
  };
  BusyShares busy;
  busy.seconds = static_cast<double>(extent_ns) / 1e9;
  busy.all = shares_of(-1);
  const int32_t last_stage = *std::ranges::max_element(stages);
  for (int32_t stage = 0; stage <= last_stage; ++stage) busy.stages.push_back(shares_of(stage));
  return busy;
}

}  // namespace sluice::trace
