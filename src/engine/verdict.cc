#include "engine/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace sluice::engine {
namespace {

using trace::WaitKind;

constexpr int kController = -1;
// How long a rank that only lost a peer is heard as a witness before it is named for want of a better name.
constexpr Duration kWitnessPatience = std::chrono::seconds(2);

// `waiter` waits for `peer`.
struct Edge {
  int waiter = kController;
  int peer = -1;
  int64_t age_ns = 0;
};

class Judge {
 public:
  Judge(const JobRecord& job, const StallLimit& limit, int64_t now_ns)
      : job_(job), limit_(limit), now_ns_(now_ns), edges_(Edges()) {}

  std::optional<Verdict> Find() const {
    for (const auto rule : {&Judge::Gone, &Judge::Failed, &Judge::Silent, &Judge::Unreached, &Judge::Passed,
                            &Judge::LateForOthers, &Judge::Circle, &Judge::Witness}) {
      if (auto verdict = (this->*rule)()) return verdict;
    }
    return std::nullopt;
  }

 private:
  const RankState& State(int rank) const { return job_.ranks[static_cast<size_t>(rank)]; }
  const std::optional<trace::Wait>& WaitOf(int rank) const { return State(rank).heartbeat.wait; }
  std::string Name(int rank) const { return DescribeRank(job_, rank); }
  std::string Place(int rank) const { return DescribePlace(State(rank).heartbeat.place); }
  // Of a rank that says nothing any more: a fifth of a second old when it fell silent.
  std::string LastPlace(int rank) const { return "its last word came " + Place(rank); }
  int world() const { return static_cast<int>(job_.ranks.size()); }
  bool TooLong(int64_t age_ns) const { return age_ns > limit_.wait.count(); }
  int64_t WaitAge(int rank) const { return State(rank).last_heard_ns - WaitOf(rank)->since_ns; }

  // Every wait for a rank that has lasted the limit, the longest first.
  std::vector<Edge> Edges() const {
    std::vector<Edge> edges;
    for (int rank = 0; rank < world(); ++rank) {
      const auto& wait = WaitOf(rank);
      if (!wait.has_value() || wait->peer < 0 || wait->peer >= world()) continue;
      if (TooLong(WaitAge(rank))) edges.push_back({rank, wait->peer, WaitAge(rank)});
    }
    for (const Edge& waiting : ControllersWaits()) {
      if (TooLong(waiting.age_ns)) edges.push_back(waiting);
    }
    std::stable_sort(edges.begin(), edges.end(),
                     [](const Edge& a, const Edge& b) { return a.age_ns > b.age_ns; });
    return edges;
  }

  // For every rank to be ready, then for the result of the oldest step.
  std::vector<Edge> ControllersWaits() const {
    std::vector<Edge> edges;
    for (int rank = 0; rank < world(); ++rank) {
      if (!State(rank).ready) edges.push_back({kController, rank, now_ns_ - job_.started_ns});
    }
    if (!job_.due.empty()) {
      edges.push_back({kController, job_.grid.Rank(job_.grid.stages - 1, 0),
                       now_ns_ - std::max(job_.due.front().published_ns, job_.last_result_ns)});
    }
    return edges;
  }

  // "; rank 1 (...) waits for it in hop receive, 4096 bytes, since 2.3 s", for the longest wait.
  std::string WhoWaits(int rank) const {
    const Edge* longest = nullptr;
    std::vector<Edge> all = edges_;
    for (int r = 0; r < world(); ++r) {
      const auto& wait = WaitOf(r);
      if (wait.has_value() && wait->peer == rank && !(State(r).gone && State(r).failure.empty()))
        all.push_back({r, rank, now_ns_ - wait->since_ns});
    }
    for (const Edge& edge : all) {
      if (edge.peer == rank && (longest == nullptr || edge.age_ns > longest->age_ns)) longest = &edge;
    }
    if (longest == nullptr) return "";
    if (longest->waiter == kController && !State(rank).ready)
      return fmt::format("; the controller waits for it to be ready since {:.1f} s",
                         SecondsOfNs(longest->age_ns));
    if (longest->waiter == kController) {
      return fmt::format("; the controller waits for the result of step {} since {:.1f} s",
                         job_.due.front().step, SecondsOfNs(longest->age_ns));
    }
    const trace::Wait& wait = *WaitOf(longest->waiter);
    return fmt::format("; {} waits for it in {}{} {} since {:.1f} s", Name(longest->waiter), wait.op,
                       wait.bytes > 0 ? fmt::format(" of {} bytes", wait.bytes) : "",
                       DescribePlace(wait.place), SecondsOfNs(longest->age_ns));
  }

  std::optional<Verdict> Named(int rank, const std::string& what) const {
    return Verdict{rank, fmt::format("{} {}{}", Name(rank), what, WhoWaits(rank))};
  }

  std::optional<Verdict> Gone() const {
    for (int rank = 0; rank < world(); ++rank) {
      if (State(rank).gone && State(rank).failure.empty())
        return Named(rank, fmt::format("is gone: {}, {}", State(rank).gone_reason, LastPlace(rank)));
    }
    return std::nullopt;
  }

  std::optional<Verdict> Failed() const {
    for (int rank = 0; rank < world(); ++rank) {
      if (State(rank).failure.empty() || State(rank).failure_is_a_lost_peer) continue;
      const int accused = State(rank).accused;
      if (accused >= 0 && accused != rank) {
        return Verdict{accused, fmt::format("{} did not send what it had to, {} reports: {}", Name(accused),
                                            Name(rank), State(rank).failure)};
      }
      return Verdict{rank, fmt::format("{} failed: {}", Name(rank), State(rank).failure)};
    }
    return std::nullopt;
  }

  std::optional<Verdict> Silent() const {
    for (int rank = 0; rank < world(); ++rank) {
      const int64_t silence_ns = now_ns_ - State(rank).last_heard_ns;
      if (State(rank).failure.empty() && TooLong(silence_ns)) {
        return Named(rank, fmt::format("has not been heard of for {:.1f} s, {}", SecondsOfNs(silence_ns),
                                       LastPlace(rank)));
      }
    }
    return std::nullopt;
  }

  std::optional<Verdict> Unreached() const {
    for (const DueStep& due : job_.due) {
      for (int rank = 0; rank < world(); ++rank) {
        const RankState& state = State(rank);
        if (!state.failure.empty() || state.heartbeat.received_step >= due.step ||
            !TooLong(state.last_heard_ns - due.published_ns))
          continue;
        return Named(rank, fmt::format("did not arrive: step {}, published {:.1f} s ago, has not reached it; "
                                       "it {}",
                                       due.step, SecondsOfNs(now_ns_ - due.published_ns), Doing(rank)));
      }
    }
    return std::nullopt;
  }

  std::optional<Verdict> Passed() const {
    for (const Edge& edge : edges_) {
      if (!HasPassed(edge)) continue;
      const std::string what = edge.waiter == kController
                                   ? "the result has"
                                   : fmt::format("what it sent to rank {} has", edge.waiter);
      return Named(edge.peer, fmt::format("did not arrive: it has done its part, but {} not come; it {}",
                                          what, Doing(edge.peer)));
    }
    return std::nullopt;
  }

  // What the waiter waits for has been sent, lately or long ago: its peer is not what holds it up.
  bool OnItsWay(const Edge& edge) const {
    return edge.waiter != kController && State(edge.waiter).peer_passed_ns > 0;
  }

  // For the limit.
  bool HasPassed(const Edge& edge) const {
    if (edge.waiter == kController) {
      const pipeline::Heartbeat& peer = State(edge.peer).heartbeat;
      return State(edge.peer).ready && peer.wait.has_value() && peer.wait->kind == WaitKind::kWork &&
             TooLong(WaitAge(edge.peer)) && peer.place.step >= job_.due.front().step;
    }
    const RankState& waiter = State(edge.waiter);
    return waiter.peer_passed_ns > 0 && TooLong(waiter.last_heard_ns - waiter.peer_passed_ns);
  }

  std::optional<Verdict> LateForOthers() const {
    for (const Edge& edge : edges_) {
      if (!OnItsWay(edge) && IsLate(edge.peer))
        return Named(edge.peer, "did not arrive: it " + Doing(edge.peer));
    }
    return std::nullopt;
  }

  // Waits for no other rank, and has been at it for the limit.
  bool IsLate(int rank) const {
    const auto& wait = WaitOf(rank);
    if (!wait.has_value())
      return limit_.judges_computing && State(rank).ready &&
             TooLong(State(rank).last_heard_ns - State(rank).last_progress_ns);
    return wait->peer < 0 && TooLong(WaitAge(rank));
  }

  std::string Doing(int rank) const {
    const auto& wait = WaitOf(rank);
    if (!wait.has_value()) {
      return fmt::format("has made no progress for {:.1f} s, {}",
                         SecondsOfNs(now_ns_ - State(rank).last_progress_ns), Place(rank));
    }
    const double seconds = SecondsOfNs(now_ns_ - wait->since_ns);
    if (wait->kind == WaitKind::kWork) return fmt::format("sits idle for {:.1f} s, {}", seconds, After(rank));
    if (wait->peer < 0) return fmt::format("is in {} for {:.1f} s, {}", wait->op, seconds, Place(rank));
    return fmt::format("is in {} {} for {:.1f} s", wait->op, DescribePlace(wait->place), seconds);
  }

  std::string After(int rank) const {
    const int64_t step = State(rank).heartbeat.place.step;
    return step < 0 ? "before its first step" : fmt::format("after step {}", step);
  }

  // Follows the old waits from the oldest; a rank met twice stands in a circle.
  std::optional<Verdict> Circle() const {
    for (const Edge& start : edges_) {
      if (OnItsWay(start)) continue;
      std::vector<int> path;
      int at = start.peer;
      while (at >= 0 && std::find(path.begin(), path.end(), at) == path.end()) {
        path.push_back(at);
        at = WaitedForBy(at);
      }
      if (at < 0) continue;
      path.erase(path.begin(), std::find(path.begin(), path.end(), at));
      const int least = *std::min_element(path.begin(), path.end(),
                                          [this](int a, int b) { return Progress(a) < Progress(b); });
      return Named(least, fmt::format("has come least far of {} ranks that wait for one another: it {}",
                                      path.size(), Doing(least)));
    }
    return std::nullopt;
  }

  int WaitedForBy(int rank) const {
    for (const Edge& edge : edges_) {
      if (edge.waiter == rank && !OnItsWay(edge)) return edge.peer;
    }
    return -1;
  }

  std::tuple<int64_t, int32_t, int32_t, uint64_t> Progress(int rank) const {
    const pipeline::Heartbeat& heartbeat = State(rank).heartbeat;
    return {heartbeat.place.step, heartbeat.place.pass, heartbeat.place.layer, heartbeat.counts.collectives};
  }

  std::optional<Verdict> Witness() const {
    for (int rank = 0; rank < world(); ++rank) {
      if (!State(rank).failure.empty() &&
          now_ns_ - State(rank).last_heard_ns > std::min(limit_.wait, kWitnessPatience).count())
        return Verdict{rank, fmt::format("{} failed: {}", Name(rank), State(rank).failure)};
    }
    return std::nullopt;
  }

  const JobRecord& job_;
  const StallLimit& limit_;
  const int64_t now_ns_;
  const std::vector<Edge> edges_;
};

// Whether whom this rank waits for has done its part by now, as far as their heartbeats tell.
bool PeerHasPassed(const JobRecord& job, const RankState& waiter) {
  const auto& wait = waiter.heartbeat.wait;
  if (!wait.has_value() || wait->peer < 0 || wait->peer >= std::ssize(job.ranks)) return false;
  const trace::Counts& mine = waiter.heartbeat.counts;
  const trace::Counts& peer = job.ranks[static_cast<size_t>(wait->peer)].heartbeat.counts;
  switch (wait->kind) {
    case WaitKind::kHop:
      return peer.sent > mine.taken;
    case WaitKind::kToken:
      return peer.sampled_step >= wait->of_step;
    case WaitKind::kCollective:
      return peer.collectives > mine.collectives;
    default:
      return false;
  }
}

}  // namespace

void NotePassed(JobRecord& job, int64_t now_ns) {
  for (RankState& rank : job.ranks) {
    if (!PeerHasPassed(job, rank)) {
      rank.peer_passed_ns = 0;
    } else if (rank.peer_passed_ns < rank.heartbeat.wait->since_ns) {
      rank.peer_passed_ns = now_ns;  // what was noted, if anything, was of an earlier wait
    }
  }
}

std::string DescribeRank(const parallel::Grid& grid, int rank) {
  return fmt::format("rank {} (stage {}, lane {})", rank, grid.StageOf(rank), grid.LaneOf(rank));
}

std::string DescribeRank(const JobRecord& job, int rank) {
  const std::string& host = job.ranks[static_cast<size_t>(rank)].heartbeat.host;
  return DescribeRank(job.grid, rank) + (host.empty() ? "" : " on " + host);
}

std::string DescribePlace(const trace::Place& place) {
  if (place.step < 0) return "before its first step";
  if (place.layer < 0) return fmt::format("at step {}, pass {}", place.step, place.pass);
  return fmt::format("at step {}, pass {}, layer {}", place.step, place.pass, place.layer);
}

std::optional<Verdict> FindVerdict(const JobRecord& job, const StallLimit& limit, int64_t now_ns) {
  return Judge(job, limit, now_ns).Find();
}

}  // namespace sluice::engine
