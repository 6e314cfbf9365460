#include "serve/rank_series.h"

#include <algorithm>
#include <string>

#include "base/clock.h"

namespace sluice::serve {
namespace {

using engine::RankReport;
using prometheus::MetricFamily;
using prometheus::MetricType;

// A family to which values with further labels are added.
class Family {
 public:
  Family(const char* name, const char* help, MetricType type, const prometheus::Labels& labels)
      : labels_(labels) {
    family_.name = std::string("sluice_") + name;
    family_.help = help;
    family_.type = type;
  }
  void Add(double value, const std::vector<prometheus::ClientMetric::Label>& labels) {
    prometheus::ClientMetric metric;
    for (const auto& [name, text] : labels_) metric.label.push_back({name, text});
    metric.label.insert(metric.label.end(), labels.begin(), labels.end());
    if (family_.type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    family_.metric.push_back(std::move(metric));
  }
  MetricFamily Take() { return std::move(family_); }

 private:
  const prometheus::Labels& labels_;
  MetricFamily family_;
};

std::vector<prometheus::ClientMetric::Label> LabelsOf(const RankReport& rank) {
  return {{"rank", std::to_string(rank.rank)},
          {"stage", std::to_string(rank.stage)},
          {"lane", std::to_string(rank.lane)}};
}

template <typename Value>
MetricFamily OfRanks(const char* name, const char* help, MetricType type, const prometheus::Labels& labels,
                     const engine::StallReport& report, Value value) {
  Family family(name, help, type, labels);
  for (const RankReport& rank : report.ranks) family.Add(value(rank), LabelsOf(rank));
  return family.Take();
}

bool Up(const RankReport& rank) {
  return rank.activity != "gone" && rank.activity != "failed" && rank.activity != "starts";
}

std::vector<trace::Times> ByStage(const engine::StallReport& report) {
  std::vector<trace::Times> stages;
  for (const RankReport& rank : report.ranks) {
    stages.resize(std::max<std::size_t>(stages.size(), static_cast<std::size_t>(rank.stage) + 1));
    trace::Times& stage = stages[static_cast<std::size_t>(rank.stage)];
    stage.compute_ns += rank.times.compute_ns;
    stage.wait_ns += rank.times.wait_ns;
    stage.hop_ns += rank.times.hop_ns;
    stage.idle_ns += rank.times.idle_ns;
  }
  return stages;
}

void AddStages(const engine::StallReport& report, const prometheus::Labels& labels,
               std::vector<MetricFamily>& families) {
  Family parts("stage_seconds_total",
               "Time of a stage's ranks, added up: computing, waiting for other lanes, waiting for other "
               "stages, without published work",
               MetricType::Counter, labels);
  Family bubble(
      "pipeline_bubble_seconds_total",
      "Time of a stage's ranks, added up, in which there was published work and they did not compute",
      MetricType::Counter, labels);
  const std::vector<trace::Times> stages = ByStage(report);
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const std::string stage = std::to_string(s);
    parts.Add(SecondsOfNs(stages[s].compute_ns), {{"stage", stage}, {"part", "compute"}});
    parts.Add(SecondsOfNs(stages[s].wait_ns), {{"stage", stage}, {"part", "wait"}});
    parts.Add(SecondsOfNs(stages[s].hop_ns), {{"stage", stage}, {"part", "hop"}});
    parts.Add(SecondsOfNs(stages[s].idle_ns), {{"stage", stage}, {"part", "idle"}});
    bubble.Add(SecondsOfNs(stages[s].wait_ns + stages[s].hop_ns), {{"stage", stage}});
  }
  families.push_back(parts.Take());
  families.push_back(bubble.Take());

  Family fill("pipeline_fill_ratio", "Share of the last busy period in which a stage's ranks computed",
              MetricType::Gauge, labels);
  std::vector<trace::BusyPeriod> periods;
  std::vector<int32_t> stage_of;
  for (const RankReport& rank : report.ranks) {
    periods.push_back(rank.period);
    stage_of.push_back(rank.stage);
  }
  const auto busy = trace::BusySharesOf(periods, stage_of);
  for (std::size_t s = 0; s < stages.size(); ++s) {
    fill.Add(busy.has_value() ? busy->stages[s].compute : 0.0, {{"stage", std::to_string(s)}});
  }
  families.push_back(fill.Take());
}

}  // namespace

std::vector<MetricFamily> RankSeries(const engine::StallReport& report, const prometheus::Labels& labels) {
  using enum MetricType;
  std::vector<MetricFamily> families;
  const auto add = [&](const char* name, const char* help, MetricType type, auto value) {
    families.push_back(OfRanks(name, help, type, labels, report, value));
  };
  add("rank_up", "1 while the rank takes part", Gauge, [](const RankReport& r) { return Up(r) ? 1.0 : 0.0; });
  add("rank_heartbeat_age_seconds", "Since the rank was last heard", Gauge,
      [](const RankReport& r) { return r.heard_age_seconds; });
  add("rank_step", "The step the rank is in; -1: before the first", Gauge,
      [](const RankReport& r) { return static_cast<double>(r.step); });
  add("rank_rows_total", "Rows the rank has computed", Counter,
      [](const RankReport& r) { return static_cast<double>(r.rows_computed); });
  add("rank_wait_seconds_total", "Time the rank waited for other lanes; the straggler has the least", Counter,
      [](const RankReport& r) { return SecondsOfNs(r.times.wait_ns); });
  Family bytes("rank_hop_bytes_total", "Bytes of rows sent to and taken from other stages", Counter, labels);
  for (const RankReport& rank : report.ranks) {
    for (const bool sent : {true, false}) {
      auto with = LabelsOf(rank);
      with.push_back({"direction", sent ? "sent" : "received"});
      bytes.Add(static_cast<double>(sent ? rank.hop_bytes_sent : rank.hop_bytes_received), with);
    }
  }
  families.push_back(bytes.Take());
  AddStages(report, labels, families);
  Family stalled("stalled",
                 "1 while a rank keeps others waiting beyond --stall-report-after, or the job ended", Gauge,
                 labels);
  stalled.Add(report.verdict.empty() ? 0.0 : 1.0, {});
  families.push_back(stalled.Take());
  return families;
}

}  // namespace sluice::serve
