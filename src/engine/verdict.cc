#include "engine/verdict.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice::engine {
namespace {

// How long a rank that only lost a peer is heard as a witness before it is named for want of a better name.
constexpr Duration kWitnessPatience = std::chrono::seconds(2);

double Seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

std::string DescribePlace(const trace::Place& place) {
  if (place.step < 0) return "before its first step";
  if (place.layer < 0) return fmt::format("at step {}", place.step);
  return fmt::format("at step {}, layer {}", place.step, place.layer);
}

// Who has waited longest for `rank`, as a clause; empty when nobody does.
std::string WhoWaitsFor(const parallel::Grid& grid, const std::vector<RankState>& ranks, int rank,
                        int64_t now_ns) {
  int longest = -1;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const auto& wait = ranks[r].heartbeat.wait;
    if (!wait.has_value() || wait->peer != rank || ranks[r].gone) continue;
    if (longest < 0 || wait->since_ns < ranks[longest].heartbeat.wait->since_ns)
      longest = static_cast<int>(r);
  }
  if (longest < 0) return "";
  const auto& wait = *ranks[longest].heartbeat.wait;
  return fmt::format("; {} waits for it in {} since {:.1f} s", DescribeRank(grid, longest), wait.op,
                     Seconds(now_ns - wait.since_ns));
}

}  // namespace

std::string DescribeRank(const parallel::Grid& grid, int rank) {
  return fmt::format("rank {} (stage {}, lane {})", rank, grid.StageOf(rank), grid.LaneOf(rank));
}

std::optional<std::string> FindVerdict(const parallel::Grid& grid, const std::vector<RankState>& ranks,
                                       Duration limit, int64_t now_ns) {
  const auto name = [&](size_t r) { return DescribeRank(grid, static_cast<int>(r)); };
  const auto waiters = [&](size_t r) { return WhoWaitsFor(grid, ranks, static_cast<int>(r), now_ns); };
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r].gone && ranks[r].failure.empty()) {
      return fmt::format("{} is gone: {}, {}{}", name(r), ranks[r].gone_reason,
                         DescribePlace(ranks[r].heartbeat.place), waiters(r));
    }
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (!ranks[r].failure.empty() && !ranks[r].failure_is_a_lost_peer) {
      return fmt::format("{} failed: {}", name(r), ranks[r].failure);
    }
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r].ready && ranks[r].failure.empty() && now_ns - ranks[r].last_heard_ns > limit.count()) {
      return fmt::format("{} has not been heard of for {:.1f} s, {}{}", name(r),
                         Seconds(now_ns - ranks[r].last_heard_ns), DescribePlace(ranks[r].heartbeat.place),
                         waiters(r));
    }
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    const auto& wait = ranks[r].heartbeat.wait;
    if (!wait.has_value() || wait->peer < 0 || now_ns - wait->since_ns <= limit.count()) continue;
    int suspect = wait->peer;
    for (size_t followed = 0; followed < ranks.size(); ++followed) {
      const auto& next = ranks[suspect].heartbeat.wait;
      if (!next.has_value() || next->peer < 0) break;
      suspect = next->peer;
    }
    if (now_ns - ranks[suspect].last_progress_ns <= limit.count()) continue;
    return fmt::format("{} did not arrive: it has made no progress for {:.1f} s, {}{}", name(suspect),
                       Seconds(now_ns - ranks[suspect].last_progress_ns),
                       DescribePlace(ranks[suspect].heartbeat.place), waiters(suspect));
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (!ranks[r].failure.empty() &&
        now_ns - ranks[r].last_heard_ns > std::min(limit, kWitnessPatience).count()) {
      return fmt::format("{} failed: {}", name(r), ranks[r].failure);
    }
  }
  return std::nullopt;
}

}  // namespace sluice::engine
