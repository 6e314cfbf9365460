#include "trace/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <queue>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "trace/dump.h"

namespace sluice::trace {
namespace {

// Processes and threads of the document; a thread has the same number nowhere else.
int ProcessOf(int stage) { return stage + 1; }
int ThreadOf(int rank) { return 1000 + rank; }

// Hops whose arrival is waited for; far more than can be on their way.
constexpr size_t kMostUnderWay = 65536;

// JSON text of a string, with its quotes.
std::string Quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// Nanoseconds as the format's microseconds.
std::string Micros(int64_t ns) { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }

// The end of a hop at the rank that takes its rows.
struct Arrival {
  int64_t at_ns = 0;
  int64_t id = 0;
};

// One rank's file as it is read, with the times of the controller's clock.
class Source {
 public:
  explicit Source(const std::filesystem::path& file) : reader_(file), line_(reader_.header().clock) {
    names_.reserve(header().names.size());
    for (const std::string& name : header().names) {
      names_.push_back(Quoted(name));
      sends_.push_back(name == kRowsSent);
      receives_.push_back(name == kRowsReceived);
    }
    Advance();
  }
  const DumpHeader& header() const { return reader_.header(); }
  const ClockLine& line() const { return line_; }

  // The next thing of this rank: an arrival that stands out, or the next event.
  bool done() const { return !event_.has_value() && !arrival_.has_value(); }
  bool arrival_is_next() const {
    return arrival_.has_value() && (!event_.has_value() || arrival_->at_ns <= event_->begin_ns);
  }
  int64_t next_ns() const { return arrival_is_next() ? arrival_->at_ns : event_->begin_ns; }

  const Event& event() const { return *event_; }
  const std::string& name(const Event& event) const { return names_[event.name]; }
  bool Sends(const Event& event) const { return event.kind == EventKind::kHop && sends_[event.name]; }
  bool Receives(const Event& event) const { return event.kind == EventKind::kHop && receives_[event.name]; }

  void SetArrival(Arrival arrival) { arrival_ = arrival; }
  Arrival TakeArrival() { return *std::exchange(arrival_, std::nullopt); }
  void Advance() {
    event_ = reader_.Next();
    if (!event_.has_value()) return;
    event_->begin_ns = line_.Aligned(event_->begin_ns);
    event_->end_ns = std::max(event_->begin_ns, line_.Aligned(event_->end_ns));
  }

 private:
  DumpReader reader_;
  ClockLine line_;
  std::vector<std::string> names_;  // as JSON text
  std::vector<bool> sends_;         // by name
  std::vector<bool> receives_;
  std::optional<Event> event_;
  std::optional<Arrival> arrival_;
};

class Merger {
 public:
  Merger(const std::vector<std::filesystem::path>& files, const TextSink& write) : write_(write) {
    SLUICE_CHECK(!files.empty(), "no trace files to merge");
    for (const auto& file : files) sources_.push_back(std::make_unique<Source>(file));
    merged_.ranks = sources_.front()->header().ranks;
    present_.resize(static_cast<size_t>(merged_.ranks));
    for (const auto& source : sources_) {
      present_.at(static_cast<size_t>(source->header().rank)) = true;
      merged_.lost += source->header().lost;
      merged_.clock_error_ns = std::max(merged_.clock_error_ns, source->line().error_ns());
    }
    for (int32_t rank = 0; rank < merged_.ranks; ++rank) {
      if (!present_[static_cast<size_t>(rank)]) merged_.missing.push_back(rank);
    }
  }

  Merged Run() {
    WriteHead();
    // Of equal times the lower rank's comes first; within a rank the file's order stands.
    const auto later = [this](size_t a, size_t b) {
      const int64_t a_ns = sources_[a]->next_ns();
      const int64_t b_ns = sources_[b]->next_ns();
      return a_ns != b_ns ? a_ns > b_ns : a > b;
    };
    std::priority_queue<size_t, std::vector<size_t>, decltype(later)> next(later);
    for (size_t i = 0; i < sources_.size(); ++i) {
      if (!sources_[i]->done()) next.push(i);
    }
    if (!next.empty()) origin_ns_ = sources_[next.top()]->next_ns();
    while (!next.empty()) {
      const size_t i = next.top();
      next.pop();
      Source& source = *sources_[i];
      if (source.arrival_is_next()) {
        const Arrival arrival = source.TakeArrival();
        // Of rows that were sent before the files begin there is no arrow.
        if (under_way_.erase(arrival.id) > 0) {
          WriteFlow(source, 'f', arrival);
          ++merged_.hops;
        }
      } else {
        WriteEvent(source);
        source.Advance();
      }
      if (!source.done()) next.push(i);
    }
    write_("\n]}\n");
    return merged_;
  }

 private:
  void WriteHead() {
    nlohmann::ordered_json about{{"format", "sluice"},
                                 {"ranks", merged_.ranks},
                                 {"missing_ranks", merged_.missing},
                                 {"lost_events", merged_.lost},
                                 {"clock_error_us", static_cast<double>(merged_.clock_error_ns) / 1e3},
                                 {"reason", sources_.front()->header().reason}};
    write_(fmt::format("{{\"displayTimeUnit\":\"ms\",\"otherData\":{},\"traceEvents\":[", about.dump()));
    std::vector<bool> stages;
    for (const auto& source : sources_) {
      const DumpHeader& h = source->header();
      const int pid = ProcessOf(h.stage);
      const int tid = ThreadOf(h.rank);
      if (stages.size() <= static_cast<size_t>(h.stage)) stages.resize(static_cast<size_t>(h.stage) + 1);
      if (!stages[static_cast<size_t>(h.stage)]) {
        stages[static_cast<size_t>(h.stage)] = true;
        Meta("process_name", pid, tid, fmt::format("\"name\":\"stage {}\"", h.stage));
        Meta("process_sort_index", pid, tid, fmt::format("\"sort_index\":{}", h.stage));
      }
      Meta("thread_name", pid, tid,
           "\"name\":" + Quoted(fmt::format("lane {} (rank {}, {})", h.lane, h.rank, h.host)));
      Meta("thread_sort_index", pid, tid, fmt::format("\"sort_index\":{}", h.lane));
    }
  }

  void Meta(const char* name, int pid, int tid, const std::string& args) {
    write_(fmt::format("{}\n{{\"name\":\"{}\",\"ph\":\"M\",\"pid\":{},\"tid\":{},\"args\":{{{}}}}}",
                       std::exchange(first_, false) ? "" : ",", name, pid, tid, args));
  }

  void WriteEvent(Source& source) {
    const Event& event = source.event();
    const DumpHeader& h = source.header();
    std::string args = fmt::format("\"step\":{},\"pass\":{}", event.step, event.pass);
    if (event.layer >= 0) args += fmt::format(",\"layer\":{}", event.layer);
    if (event.peer >= 0) args += fmt::format(",\"peer\":{}", event.peer);
    if (event.kind == EventKind::kOp) {
      args += fmt::format(",\"rows\":{}", event.amount);
    } else if (event.amount > 0) {
      args += fmt::format(",\"bytes\":{}", event.amount);
    }
    if (event.open != 0) args += ",\"open\":true";
    const std::string name =
        event.kind == EventKind::kPass ? fmt::format("\"step {}\"", event.step) : source.name(event);
    write_(
        fmt::format(",\n{{\"name\":{},\"cat\":\"{}\",\"ph\":\"X\",\"ts\":{},\"dur\":{},\"pid\":{},\"tid\":{},"
                    "\"args\":{{{}}}}}",
                    name, NameOf(event.kind), Micros(event.begin_ns - origin_ns_),
                    Micros(event.end_ns - event.begin_ns), ProcessOf(h.stage), ThreadOf(h.rank), args));
    ++merged_.events;
    if (event.open != 0 || event.peer < 0 || event.peer >= merged_.ranks ||
        !present_[static_cast<size_t>(event.peer)]) {
      return;
    }
    const bool sends = source.Sends(event);
    if (!sends && !source.Receives(event)) return;
    // A hop is named by the pass that takes its rows and by that pass's rank.
    const int64_t taker = sends ? event.peer : h.rank;
    const int64_t id = (event.step * h.visits + event.pass) * merged_.ranks + taker;
    if (sends) {
      WriteFlow(source, 's', {event.begin_ns, id});
      under_way_.insert(id);
      sent_.push_back(id);
      if (sent_.size() > kMostUnderWay) {
        under_way_.erase(sent_.front());
        sent_.pop_front();
      }
    } else {
      // Inside its event, where a viewer looks for it.
      source.SetArrival({std::max(event.begin_ns, event.end_ns - 1), id});
    }
  }

  void WriteFlow(const Source& source, char phase, const Arrival& at) {
    write_(fmt::format(
        ",\n{{\"name\":\"rows\",\"cat\":\"hop\",\"ph\":\"{}\",\"id\":{},\"ts\":{},\"pid\":{},\"tid\":{}{}}}",
        phase, at.id, Micros(at.at_ns - origin_ns_), ProcessOf(source.header().stage),
        ThreadOf(source.header().rank), phase == 'f' ? ",\"bp\":\"e\"" : ""));
  }

  const TextSink& write_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<bool> present_;
  Merged merged_;
  std::unordered_set<int64_t> under_way_;  // hops that were sent and have not arrived
  std::deque<int64_t> sent_;               // the latest
  int64_t origin_ns_ = 0;
  bool first_ = true;
};

}  // namespace

Merged MergeTraces(const std::vector<std::filesystem::path>& files, const TextSink& write) {
  return Merger(files, write).Run();
}

}  // namespace sluice::trace
