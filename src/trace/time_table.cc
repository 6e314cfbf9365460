#include "trace/time_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "trace/dump.h"

namespace sluice::trace {
namespace {

constexpr int64_t kWhole = 10000;  // 100 % in hundredths of a percent

struct Booking {
  Share share = Share::kOutside;
  std::string name;
};

// As what the time of an event is counted that no event inside it takes.
Booking BookingOf(const Event& event, const DumpHeader& header) {
  const std::string& name = header.names[event.name];
  switch (event.kind) {
    case EventKind::kPass:
      return {Share::kCompute, "between ops"};
    case EventKind::kOp:
      return {Share::kCompute, name};
    case EventKind::kCollective:
      return {Share::kCollective, name};
    case EventKind::kWait:
      return {Share::kWait, name};
    case EventKind::kHop:
      return {Share::kHop, name};
    case EventKind::kIdle:
      return {Share::kIdle, name};
  }
  return {};
}

// Walks through a rank's time once: at every moment the innermost event has it.
class Walk {
 public:
  Walk(StageTimes& into, int64_t begin_ns) : into_(into), at_ns_(begin_ns) {}

  void Begin(const Event& event, Booking booking, const DumpReader& reader) {
    while (!open_.empty() && open_.back().end_ns <= event.begin_ns) End();
    Book(event.begin_ns);
    if (!open_.empty() && event.end_ns > open_.back().end_ns) {
      Fail(ErrorKind::kUsage,
           "{}: {} from {} ns to {} ns begins inside {}, which ends at {} ns: events of a rank nest",
           reader.file().string(), booking.name, event.begin_ns, event.end_ns, open_.back().booking.name,
           open_.back().end_ns);
    }
    open_.push_back({event.end_ns, std::move(booking)});
  }
  void Finish(int64_t end_ns) {
    while (!open_.empty()) End();
    Book(end_ns);
  }

 private:
  struct Open {
    int64_t end_ns = 0;
    Booking booking;
  };
  void End() {
    Book(open_.back().end_ns);
    open_.pop_back();
  }
  // What lies between the last moment and this one belongs to the innermost.
  void Book(int64_t now_ns) {
    static const Booking kOutside{Share::kOutside, "outside passes"};
    const Booking& booking = open_.empty() ? kOutside : open_.back().booking;
    if (now_ns > at_ns_) into_.parts[booking.share][booking.name] += now_ns - at_ns_;
    at_ns_ = now_ns;
  }

  StageTimes& into_;
  int64_t at_ns_;
  std::vector<Open> open_;
};

StageTimes& StageOf(TimeTable& table, int32_t stage) {
  const auto at = std::find_if(table.stages.begin(), table.stages.end(),
                               [&](const StageTimes& times) { return times.stage >= stage; });
  if (at != table.stages.end() && at->stage == stage) return *at;
  return *table.stages.insert(at, StageTimes{stage, 0, 0, {}});
}

struct Line {
  Share share = Share::kOutside;
  std::string name;
  int64_t ns = 0;
  int64_t hundredths = 0;  // of a percent
};

// The parts of a stage with their hundredths of a percent of the sum, which add up to kWhole.
std::vector<Line> LinesOf(const StageTimes& stage) {
  std::vector<Line> lines;
  for (const auto& [share, parts] : stage.parts) {
    for (const auto& [name, ns] : parts) lines.push_back({share, name, ns, 0});
  }
  const int64_t sum = stage.sum_ns();
  if (sum == 0) return lines;
  std::vector<size_t> order(lines.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::vector<double> remainder(lines.size());
  int64_t missing = kWhole;
  for (size_t i = 0; i < lines.size(); ++i) {
    const double exact = static_cast<double>(lines[i].ns) * kWhole / static_cast<double>(sum);
    lines[i].hundredths = static_cast<int64_t>(exact);
    remainder[i] = exact - static_cast<double>(lines[i].hundredths);
    missing -= lines[i].hundredths;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return remainder[a] > remainder[b]; });
  for (int64_t i = 0; i < missing; ++i) ++lines[order[static_cast<size_t>(i) % order.size()]].hundredths;
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) {
    return a.share != b.share ? a.share < b.share : a.ns > b.ns;
  });
  return lines;
}

}  // namespace

const char* NameOf(Share share) {
  switch (share) {
    case Share::kCompute:
      return "compute";
    case Share::kCollective:
      return "collective";
    case Share::kWait:
      return "wait";
    case Share::kHop:
      return "hop";
    case Share::kIdle:
      return "idle";
    case Share::kOutside:
      return "outside";
  }
  return "?";
}

int64_t StageTimes::sum_ns() const {
  int64_t sum = 0;
  for (const auto& [share, by_name] : parts) {
    for (const auto& [name, ns] : by_name) sum += ns;
  }
  return sum;
}

TimeTable TableOf(const std::vector<std::filesystem::path>& files) {
  TimeTable table;
  std::vector<bool> present;
  for (const auto& file : files) {
    DumpReader reader(file);
    const DumpHeader& header = reader.header();
    table.ranks = header.ranks;
    table.lost += header.lost;
    present.resize(static_cast<size_t>(header.ranks));
    present[static_cast<size_t>(header.rank)] = true;
    StageTimes& stage = StageOf(table, header.stage);
    ++stage.lanes;
    stage.total_ns += header.end_ns - header.begin_ns;
    Walk walk(stage, header.begin_ns);
    while (const auto event = reader.Next()) walk.Begin(*event, BookingOf(*event, header), reader);
    walk.Finish(header.end_ns);
  }
  for (size_t rank = 0; rank < present.size(); ++rank) {
    if (!present[rank]) table.missing.push_back(static_cast<int32_t>(rank));
  }
  return table;
}

std::string TextOf(const TimeTable& table) {
  std::string text;
  const auto line = [&text](const std::string& name, int64_t hundredths, double seconds) {
    text += fmt::format("  {:<36}{:>7.2f} %{:>12.6f} s\n", name, static_cast<double>(hundredths) / 100.0,
                        seconds);
  };
  for (const StageTimes& stage : table.stages) {
    const std::vector<Line> lines = LinesOf(stage);
    const auto lanes = static_cast<double>(std::max(stage.lanes, 1));
    text += fmt::format("stage {}, {} lane{}: {:.6f} s of each\n", stage.stage, stage.lanes,
                        stage.lanes == 1 ? "" : "s", static_cast<double>(stage.total_ns) / lanes / 1e9);
    int64_t hundredths = 0;
    for (int share = 0; share < kShares; ++share) {
      Line all{static_cast<Share>(share), {}, 0, 0};
      int parts = 0;
      for (const Line& each : lines) {
        if (each.share != all.share) continue;
        all.ns += each.ns;
        all.hundredths += each.hundredths;
        ++parts;
      }
      if (parts == 0 && all.share == Share::kOutside) continue;
      hundredths += all.hundredths;
      line(NameOf(all.share), all.hundredths, static_cast<double>(all.ns) / lanes / 1e9);
      if (all.share == Share::kIdle || all.share == Share::kOutside) continue;
      for (const Line& each : lines) {
        if (each.share == all.share) {
          line("  " + each.name, each.hundredths, static_cast<double>(each.ns) / lanes / 1e9);
        }
      }
    }
    line("sum", hundredths, static_cast<double>(stage.sum_ns()) / lanes / 1e9);
  }
  if (!table.missing.empty()) text += fmt::format("missing: rank {}\n", fmt::join(table.missing, ", "));
  if (table.lost > 0)
    text += fmt::format("{} events were overwritten before the files were written\n", table.lost);
  return text;
}

std::string JsonOf(const TimeTable& table) {
  nlohmann::ordered_json json{
      {"ranks", table.ranks}, {"missing_ranks", table.missing}, {"lost_events", table.lost}};
  auto& stages = json["stages"] = nlohmann::ordered_json::array();
  for (const StageTimes& stage : table.stages) {
    nlohmann::ordered_json parts = nlohmann::ordered_json::object();
    for (const auto& [share, by_name] : stage.parts) parts[NameOf(share)] = by_name;
    stages.push_back({{"stage", stage.stage},
                      {"lanes", stage.lanes},
                      {"total_ns", stage.total_ns},
                      {"sum_ns", stage.sum_ns()},
                      {"parts_ns", parts}});
  }
  return json.dump(2) + "\n";
}

}  // namespace sluice::trace
