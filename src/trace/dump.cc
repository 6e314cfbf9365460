#include "trace/dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace sluice::trace {
namespace {

constexpr const char* kFormat = "sluice trace 1";
constexpr size_t kLongestHeader = size_t{1} << 20;

nlohmann::ordered_json JsonOf(const DumpHeader& h) {
  auto clock = nlohmann::ordered_json::array();
  for (const ClockPoint& point : h.clock) {
    clock.push_back({{"at_ns", point.at_ns}, {"offset_ns", point.offset_ns}, {"error_ns", point.error_ns}});
  }
  return {{"format", kFormat},  {"rank", h.rank},     {"ranks", h.ranks},       {"stage", h.stage},
          {"stages", h.stages}, {"lane", h.lane},     {"lanes", h.lanes},       {"visits", h.visits},
          {"host", h.host},     {"reason", h.reason}, {"begin_ns", h.begin_ns}, {"end_ns", h.end_ns},
          {"events", h.events}, {"lost", h.lost},     {"names", h.names},       {"clock", clock}};
}

DumpHeader HeaderOf(const std::string& line, const std::filesystem::path& file) {
  try {
    const auto json = nlohmann::json::parse(line);
    if (json.at("format") != kFormat) {
      Fail(ErrorKind::kUsage, "{} is not in the format \"{}\": read it with the program that wrote it",
           file.string(), kFormat);
    }
    DumpHeader h;
    h.rank = json.at("rank");
    h.ranks = json.at("ranks");
    h.stage = json.at("stage");
    h.stages = json.at("stages");
    h.lane = json.at("lane");
    h.lanes = json.at("lanes");
    h.visits = json.at("visits");
    h.host = json.at("host");
    h.reason = json.at("reason");
    h.begin_ns = json.at("begin_ns");
    h.end_ns = json.at("end_ns");
    h.events = json.at("events");
    h.lost = json.at("lost");
    h.names = json.at("names").get<std::vector<std::string>>();
    for (const auto& point : json.at("clock")) {
      h.clock.push_back({point.at("at_ns"), point.at("offset_ns"), point.at("error_ns")});
    }
    if (h.ranks < 1 || h.rank < 0 || h.rank >= h.ranks || h.visits < 1 || h.end_ns < h.begin_ns) {
      Fail(ErrorKind::kUsage, "{} is not a trace file: rank {} of {}, {} ns to {} ns", file.string(), h.rank,
           h.ranks, h.begin_ns, h.end_ns);
    }
    return h;
  } catch (const nlohmann::json::exception&) {
    Fail(ErrorKind::kUsage,
         "{} is not a trace file: its first line is not the header that docs/tracing.md "
         "describes",
         file.string());
  }
}

}  // namespace

std::vector<Event> Arrange(RankEvents recorded, int64_t begin_ns, int64_t first_step, DumpHeader& header) {
  std::vector<Event>& events = recorded.events;
  // The ring is in the order of ends: what it has lost ended before its first event did.
  if (recorded.lost > 0 && !events.empty()) begin_ns = std::max(begin_ns, events.front().end_ns);
  std::erase_if(events, [&](const Event& e) {
    return e.end_ns <= begin_ns || (first_step >= 0 && e.step < first_step);
  });
  // What encloses another ends later, so it comes before it when begins are equal and the order is turned.
  std::reverse(events.begin(), events.end());
  std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
    return a.begin_ns != b.begin_ns ? a.begin_ns < b.begin_ns : a.end_ns > b.end_ns;
  });
  const bool with_the_first = begin_ns < 0 || first_step >= 0;
  if (with_the_first) {
    begin_ns = std::max(begin_ns, events.empty() ? recorded.started_ns : events.front().begin_ns);
  }
  for (Event& event : events) event.begin_ns = std::max(event.begin_ns, begin_ns);
  header.begin_ns = begin_ns;
  header.end_ns = std::max(recorded.now_ns, begin_ns);
  header.events = events.size();
  header.lost = recorded.lost;
  header.names = std::move(recorded.names);
  return std::move(events);
}

void WriteDump(const std::filesystem::path& file, const DumpHeader& header,
               const std::vector<Event>& events) {
  std::ofstream out(file, std::ios::binary);
  out << JsonOf(header).dump() << '\n';
  out.write(reinterpret_cast<const char*>(events.data()),
            static_cast<std::streamsize>(events.size() * kEventBytes));
  out.close();
  if (!out) {
    Fail(ErrorKind::kUsage, "the trace file {} cannot be written: {}", file.string(), std::strerror(errno));
  }
}

DumpReader::DumpReader(std::filesystem::path file) : file_(std::move(file)), in_(file_, std::ios::binary) {
  if (!in_)
    Fail(ErrorKind::kUsage, "the trace file {} cannot be read: {}", file_.string(), std::strerror(errno));
  std::string line;
  for (char c = 0; in_.get(c) && c != '\n' && line.size() < kLongestHeader;) line.push_back(c);
  header_ = HeaderOf(line, file_);
  last_begin_ns_ = header_.begin_ns;
}

void DumpReader::Refill() {
  buffer_.resize(std::min<uint64_t>(kBuffered, header_.events - read_));
  at_ = 0;
  in_.read(reinterpret_cast<char*>(buffer_.data()),
           static_cast<std::streamsize>(buffer_.size() * kEventBytes));
  if (static_cast<size_t>(in_.gcount()) != buffer_.size() * kEventBytes) {
    Fail(ErrorKind::kUsage, "{} ends after event {} of {}: the file was not written or copied whole",
         file_.string(), read_ + static_cast<uint64_t>(in_.gcount()) / kEventBytes, header_.events);
  }
}

std::optional<Event> DumpReader::Next() {
  if (read_ == header_.events) return std::nullopt;
  if (at_ == buffer_.size()) Refill();
  const Event event = buffer_[at_++];
  if (event.begin_ns < last_begin_ns_ || event.end_ns < event.begin_ns || event.end_ns > header_.end_ns ||
      event.name >= header_.names.size() || static_cast<int>(event.kind) >= kEventKinds) {
    Fail(
        ErrorKind::kUsage,
        "{}: event {} cannot be: kind {}, name {} of {}, {} ns to {} ns in a file from {} ns to {} ns, after "
        "one at {} ns",
        file_.string(), read_, static_cast<int>(event.kind), event.name, header_.names.size(), event.begin_ns,
        event.end_ns, header_.begin_ns, header_.end_ns, last_begin_ns_);
  }
  last_begin_ns_ = event.begin_ns;
  ++read_;
  return event;
}

std::vector<std::filesystem::path> FindDumps(const std::vector<std::string>& words) {
  std::vector<std::filesystem::path> found;
  for (const std::string& word : words) {
    const std::filesystem::path path = word;
    if (!std::filesystem::is_directory(path)) {
      found.push_back(path);
      continue;
    }
    size_t here = 0;
    std::string inside;  // directories of dumps
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == kDumpSuffix) {
        found.push_back(entry.path());
        ++here;
      } else if (entry.is_directory() &&
                 std::filesystem::exists(entry.path() / fmt::format("rank-0{}", kDumpSuffix))) {
        inside += (inside.empty() ? "" : ", ") + entry.path().filename().string();
      }
    }
    if (here == 0) {
      Fail(ErrorKind::kUsage, "{} has no trace files (*{}){}", word, kDumpSuffix,
           inside.empty() ? ": give the directory that a dump was written to"
                          : "; its dumps are " + inside + ": give one of them");
    }
  }
  std::map<int32_t, std::filesystem::path> by_rank;
  int32_t ranks = 0;
  for (const std::filesystem::path& file : found) {
    const DumpHeader header = DumpReader(file).header();
    const auto [other, fresh] = by_rank.emplace(header.rank, file);
    if (!fresh) {
      Fail(ErrorKind::kUsage, "{} and {} are both of rank {}: give the files of one dump",
           other->second.string(), file.string(), header.rank);
    }
    if (ranks != 0 && ranks != header.ranks) {
      Fail(ErrorKind::kUsage, "{} is of a job of {} ranks, others are of {}: give the files of one dump",
           file.string(), header.ranks, ranks);
    }
    ranks = header.ranks;
  }
  std::vector<std::filesystem::path> files;
  for (auto& [rank, file] : by_rank) files.push_back(std::move(file));
  return files;
}

}  // namespace sluice::trace
