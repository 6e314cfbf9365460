#include "engine/stall_report.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice::engine {
namespace {

double Elapsed(int64_t ns) { return std::max(0.0, SecondsOfNs(ns)); }

const char* ActivityOf(const RankState& state) {
  if (state.gone) return "gone";
  if (!state.failure.empty()) return "failed";
  const auto& wait = state.heartbeat.wait;
  if (wait.has_value() && wait->kind == trace::WaitKind::kWork) return "idle";
  if (wait.has_value()) return "waits";
  return state.ready ? "computes" : "starts";
}

RankReport ReportOf(const JobRecord& job, int rank, int64_t now_ns) {
  const RankState& state = job.ranks[static_cast<size_t>(rank)];
  const pipeline::Heartbeat& heartbeat = state.heartbeat;
  RankReport report;
  report.rank = rank;
  report.stage = job.grid.StageOf(rank);
  report.lane = job.grid.LaneOf(rank);
  report.host = heartbeat.host;
  report.activity = ActivityOf(state);
  report.step = heartbeat.place.step;
  report.pass = heartbeat.place.pass;
  report.layer = heartbeat.place.layer;
  report.received_step = heartbeat.received_step;
  if (heartbeat.wait.has_value()) {
    report.op = heartbeat.wait->op;
    report.peer = heartbeat.wait->peer;
    report.bytes = heartbeat.wait->bytes;
    report.waited_seconds = Elapsed(now_ns - heartbeat.wait->since_ns);
  }
  report.progress_age_seconds = Elapsed(now_ns - state.last_progress_ns);
  report.heard_age_seconds = Elapsed(now_ns - state.last_heard_ns);
  report.collectives = heartbeat.counts.collectives;
  report.hops_sent = heartbeat.counts.sent;
  report.hops_taken = heartbeat.counts.taken;
  report.rows_computed = heartbeat.rows_computed;
  report.hop_bytes_sent = heartbeat.hop_bytes_sent;
  report.hop_bytes_received = heartbeat.hop_bytes_received;
  report.times = heartbeat.times;
  report.period = heartbeat.period;
  report.error = state.failure.empty() ? state.gone_reason : state.failure;
  return report;
}

std::string Number(int64_t value) { return value < 0 ? "-" : std::to_string(value); }

std::string Line(const RankReport& r) {
  std::string wait;
  if (!r.op.empty()) {
    wait =
        fmt::format("{}{}{} for {:.1f} s", r.op, r.peer < 0 ? "" : fmt::format(" from or to rank {}", r.peer),
                    r.bytes > 0 ? fmt::format(", {} bytes,", r.bytes) : "", r.waited_seconds);
  }
  return fmt::format("{:>4} {:>5} {:>4} {:<16} {:<8} {:>6} {:>4} {:>5} {:>8} {:>10.1f} {:>7.1f}  {}{}{}\n",
                     r.rank, r.stage, r.lane, r.host, r.activity, Number(r.step), r.pass, Number(r.layer),
                     Number(r.received_step), r.progress_age_seconds, r.heard_age_seconds, wait,
                     wait.empty() || r.error.empty() ? "" : "; ", r.error);
}

}  // namespace

StallReport MakeStallReport(const JobRecord& job, const Standing& standing, int64_t now_ns) {
  StallReport report;
  report.ended = !standing.ended.empty();
  report.verdict = report.ended ? standing.ended : standing.stalled;
  report.named_rank = standing.rank;
  for (const DueStep& due : job.due) report.due_steps.push_back(due.step);
  report.text = report.verdict.empty() ? "Every rank is well.\n"
                : report.ended         ? fmt::format("The job has ended: {}\n", report.verdict)
                                       : fmt::format("Stalled: {}\n", report.verdict);
  if (!job.due.empty()) {
    report.text +=
        fmt::format("{} steps are published and have no result, from step {}, published {:.1f} s ago\n",
                    job.due.size(), job.due.front().step, Elapsed(now_ns - job.due.front().published_ns));
  }
  report.text += fmt::format("{:>4} {:>5} {:>4} {:<16} {:<8} {:>6} {:>4} {:>5} {:>8} {:>10} {:>7}  {}\n",
                             "rank", "stage", "lane", "host", "activity", "step", "pass", "layer", "received",
                             "progress_s", "heard_s", "wait");
  for (int rank = 0; rank < static_cast<int>(job.ranks.size()); ++rank) {
    report.ranks.push_back(ReportOf(job, rank, now_ns));
    report.text += Line(report.ranks.back());
  }
  return report;
}

}  // namespace sluice::engine
