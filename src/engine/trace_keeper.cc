#include "engine/trace_keeper.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <system_error>
#include <utility>

#include "trace/dump.h"
#include "trace/merge.h"
#include "trace/text_file.h"

namespace sluice::engine {
namespace {

constexpr Duration kRankLimit = std::chrono::seconds(2);
constexpr int kMostByItself = 16;  // dumps of one run that nobody asked for, so that they fill no disk
constexpr int64_t kSlowEveryNs = 60'000'000'000;

// A directory that is not there yet; of several dumps in a second the later ones are numbered.
std::filesystem::path NewDirectory(const std::filesystem::path& into, const std::string& name) {
  std::error_code error;
  std::filesystem::create_directories(into, error);
  const std::string stamp = fmt::format("{}-{:%Y%m%dT%H%M%SZ}", name, fmt::gmtime(std::time(nullptr)));
  for (int number = 1; !error && number < 1000; ++number) {
    const auto path = into / (number == 1 ? stamp : fmt::format("{}-{}", stamp, number));
    if (std::filesystem::create_directory(path, error)) return path;
  }
  Fail(ErrorKind::kBadRequest, "no directory for a trace can be made in {}: {}", into.string(),
       error ? error.message() : "there are too many");
}

}  // namespace

TraceKeeper::TraceKeeper(TraceOptions options, const parallel::Grid& grid)
    : options_(std::move(options)), grid_(grid), clocks_(static_cast<size_t>(grid.world())) {}

TraceKeeper::~TraceKeeper() { Stop(); }

void TraceKeeper::Begin(Job& job) {
  job_ = &job;
  thread_ = std::thread([this] { Work(); });
}

void TraceKeeper::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void TraceKeeper::Post(Task task) {
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  tasks_.push_back(std::move(task));
  changed_.notify_all();
}

const std::vector<trace::ClockPoint>& TraceKeeper::ClockOf(int rank) {
  auto& known = clocks_[static_cast<size_t>(rank)];
  if (auto now = job_->Clock(rank, kRankLimit)) known = std::move(*now);
  return known;
}

void TraceKeeper::Work() {
  for (int rank = 0; rank < grid_.world(); ++rank) ClockOf(rank);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

std::filesystem::path TraceKeeper::DirectoryFor(const std::string& asked) const {
  if (!asked.empty()) return asked;
  if (options_.directory.empty()) {
    Fail(ErrorKind::kBadRequest,
         "there is no directory for traces: send output_dir, or start the server with --trace-dir");
  }
  return options_.directory;
}

void TraceKeeper::StartProfile(const ProfileRequest& request, TraceSink sink) {
  Profile profile{request, DirectoryFor(request.output_dir), {}, 0, false};
  {
    std::lock_guard lock(mutex_);
    if (profile_.has_value()) {
      Fail(ErrorKind::kBadRequest, "a profile is under way already: call /stop_profile first");
    }
    profile_ = std::move(profile);
  }
  Post([this, sink = std::move(sink)] {
    std::vector<Mark> marks = MarkAll();
    {
      std::lock_guard lock(mutex_);
      if (profile_.has_value()) profile_->marks = std::move(marks);
    }
    sink({true, "profiling has started", {}, 0, 0});
  });
}

void TraceKeeper::StopProfile(TraceSink sink) {
  {
    std::lock_guard lock(mutex_);
    if (!profile_.has_value() || profile_->ending) {
      Fail(ErrorKind::kBadRequest, "no profile is under way: call /start_profile first");
    }
    profile_->ending = true;
  }
  Post([this, sink = std::move(sink)] { sink(EndProfile()); });
}

void TraceKeeper::Dump(const std::string& output_dir, TraceSink sink) {
  Post([this, into = DirectoryFor(output_dir), sink = std::move(sink)] {
    sink(Write(into, "sluice-request", "request", {}, -1, false));
  });
}

void TraceKeeper::Completed(int64_t step) {
  std::lock_guard lock(mutex_);
  if (!profile_.has_value() || profile_->ending || profile_->marks.empty()) return;
  const ProfileRequest& request = profile_->request;
  if (request.num_steps <= 0 || step < request.start_step) return;
  if (++profile_->steps < request.num_steps) return;
  profile_->ending = true;
  tasks_.push_back([this] { EndProfile(); });
  changed_.notify_all();
}

void TraceKeeper::RequestEnded(RequestId id, double seconds) {
  if (options_.slow_request_seconds <= 0.0 || seconds < options_.slow_request_seconds) return;
  spdlog::warn("request {} took {:.3f} s, and --trace-slow-request is {:g} s", id, seconds,
               options_.slow_request_seconds);
  DumpByItself("slow", /*at_most_every=*/true);
}

void TraceKeeper::DumpByItself(const std::string& reason, bool at_most_every) {
  if (options_.directory.empty()) return;
  {
    std::lock_guard lock(mutex_);
    if (written_by_itself_ >= kMostByItself && reason != "end") return;
    const int64_t now_ns = NowNs();
    if (at_most_every && last_slow_ns_ != 0 && now_ns - last_slow_ns_ < kSlowEveryNs) return;
    if (at_most_every) last_slow_ns_ = now_ns;
    ++written_by_itself_;
  }
  Post([this, reason] { Write(options_.directory, "sluice-" + reason, reason, {}, -1, false); });
}

std::vector<TraceKeeper::Mark> TraceKeeper::MarkAll() {
  std::vector<Mark> marks(static_cast<size_t>(grid_.world()));
  for (int rank = 0; rank < grid_.world(); ++rank) {
    // Nothing has a number so high: the answer is how far the ring is, and the time.
    const auto now = job_->Events(rank, UINT64_MAX, kRankLimit);
    if (!now.has_value()) continue;
    marks[static_cast<size_t>(rank)] = {now->next, now->now_ns, ClockOf(rank)};
  }
  return marks;
}

TraceFiles TraceKeeper::EndProfile() {
  Profile profile;
  {
    std::lock_guard lock(mutex_);
    profile = std::move(*profile_);
  }
  const std::string& prefix = profile.request.prefix;
  TraceFiles files = Write(profile.directory, (prefix.empty() ? "sluice" : prefix) + "-profile", "profile",
                           profile.marks, profile.request.start_step, profile.request.merge);
  std::lock_guard lock(mutex_);
  profile_.reset();
  return files;
}

TraceFiles TraceKeeper::Write(const std::filesystem::path& into, const std::string& name,
                              const std::string& reason, const std::vector<Mark>& marks, int64_t first_step,
                              bool merge) {
  TraceFiles result;
  try {
    const std::filesystem::path directory = NewDirectory(into, name);
    std::vector<std::filesystem::path> files;
    std::string missing;
    const JobRecord record = job_->Record();
    for (int rank = 0; rank < grid_.world(); ++rank) {
      auto events = job_->Events(rank, marks.empty() ? 0 : marks[static_cast<size_t>(rank)].next, kRankLimit);
      if (!events.has_value()) {
        missing += fmt::format("{}{}", missing.empty() ? "" : ", ", DescribeRank(record, rank));
        continue;
      }
      trace::DumpHeader header;
      header.rank = rank;
      header.ranks = grid_.world();
      header.stage = grid_.StageOf(rank);
      header.stages = grid_.stages;
      header.lane = grid_.LaneOf(rank);
      header.lanes = grid_.lanes;
      header.visits = grid_.virtual_stages;
      header.host = record.ranks[static_cast<size_t>(rank)].heartbeat.host;
      header.reason = reason;
      const Mark mark = marks.empty() ? Mark{} : marks[static_cast<size_t>(rank)];
      header.clock = mark.clock;
      const std::vector<trace::ClockPoint>& clock = ClockOf(rank);
      header.clock.insert(header.clock.end(), clock.begin(), clock.end());
      const std::vector<trace::Event> ordered =
          trace::Arrange(std::move(*events), mark.begin_ns, first_step, header);
      files.push_back(directory / fmt::format("rank-{}{}", rank, trace::kDumpSuffix));
      trace::WriteDump(files.back(), header, ordered);
      result.events += header.events;
      result.lost += header.lost;
    }
    if (merge && !files.empty()) {
      const auto path = directory / "trace.json.gz";
      trace::TextFile out(path);
      trace::MergeTraces(files, [&out](std::string_view text) { out.Write(text); });
      out.Close();
      files.push_back(path);
    }
    for (const auto& file : files) result.files.push_back(file.string());
    result.success = true;
    result.message =
        fmt::format("{} events of {} of {} ranks are in {}{}{}", result.events,
                    std::count_if(files.begin(), files.end(),
                                  [](const auto& f) { return f.extension() == trace::kDumpSuffix; }),
                    grid_.world(), directory.string(),
                    result.lost > 0 ? fmt::format("; {} older ones were overwritten", result.lost) : "",
                    missing.empty() ? "" : "; there was no answer from " + missing);
    spdlog::info("trace ({}): {}", reason, result.message);
  } catch (const std::exception& error) {
    result.success = false;
    result.message = error.what();
    spdlog::warn("trace ({}): {}", reason, result.message);
  }
  return result;
}

}  // namespace sluice::engine
