#include "engine/job.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "pipeline/messages.h"

namespace sluice::engine {
namespace {

constexpr Duration kWatchEvery = std::chrono::milliseconds(50);
constexpr Duration kListenSlice = std::chrono::milliseconds(500);
constexpr Duration kStopGrace = std::chrono::seconds(2);
constexpr Duration kLoadLimit = std::chrono::minutes(30);
constexpr Duration kStateLimit = std::chrono::seconds(1);
constexpr Duration kAnswerLimit = std::chrono::seconds(60);

}  // namespace

schedule::Limits LimitsOf(const JobSettings& settings, int64_t chunk_rows, int64_t max_running) {
  const parallel::Grid& grid = settings.grid;
  return {chunk_rows,           max_running,
          settings.cache_pages, settings.max_steps_in_flight,
          grid.stages,          grid.virtual_stages > 1 ? grid.stages : 1};
}

Job::Job(const JobSettings& settings, std::unique_ptr<RankSet> ranks, JobEvents events)
    : settings_(settings),
      ranks_(std::move(ranks)),
      events_(std::move(events)),
      dumps_(settings.grid.world()),
      spans_(settings.grid.world()),
      rings_(settings.grid.world()),
      clocks_(settings.grid.world()) {
  record_.grid = settings.grid;
  record_.ranks.resize(static_cast<size_t>(settings.grid.world()));
  record_.started_ns = NowNs();
  for (RankState& state : record_.ranks) state.last_heard_ns = state.last_progress_ns = record_.started_ns;
  for (int rank = 0; rank < settings_.grid.world(); ++rank) {
    turns_.emplace_back(rank == settings_.grid.RanksOfStage(settings_.grid.stages - 1).front());
  }
  for (int rank = 0; rank < settings_.grid.world(); ++rank) {
    listeners_.emplace_back([this, rank] { Listen(rank); });
  }
  watchdog_ = std::thread([this] { Watch(); });
  bool all_ready = false;
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kLoadLimit, [&] {
      all_ready =
          std::all_of(record_.ranks.begin(), record_.ranks.end(), [](const RankState& s) { return s.ready; });
      return all_ready || !standing_.ended.empty();
    });
  }
  if (!all_ready) {
    const std::string why = verdict();
    Stop();
    throw Error(out_of_memory_ ? ErrorKind::kMemory : ErrorKind::kRankLost,
                why.empty() ? "the ranks were not ready within 30 minutes" : why);
  }
}

Job::~Job() { Stop(); }

void Job::Listen(int rank) {
  std::string reason = "it closed its control connection";
  try {
    while (true) {
      {
        std::lock_guard lock(mutex_);
        if (stopping_) return;
      }
      if (const auto frame = ranks_->channel(rank).Receive(kListenSlice)) Handle(rank, *frame);
    }
  } catch (const std::exception& error) {
    reason = error.what();
  }
  const std::string system_reason = ranks_->ReasonGone(rank);
  if (!system_reason.empty()) reason = fmt::format("{} ({})", system_reason, reason);
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  record_.ranks[rank].gone = true;
  record_.ranks[rank].gone_reason = reason;
}

void Job::Handle(int rank, const comm::Frame& frame) {
  const int64_t heard_ns = NowNs();
  const auto type = static_cast<pipeline::MessageType>(frame.type);
  {
    std::lock_guard lock(mutex_);
    turns_[rank].Check(frame);
  }
  if (type == pipeline::MessageType::kResult) {
    step::StepResult result = step::DecodeStepResult(frame.payload);
    {
      std::lock_guard lock(mutex_);
      std::erase_if(record_.due, [&](const DueStep& due) { return due.step == result.id; });
      record_.last_result_ns = NowNs();
    }
    if (events_.on_result) events_.on_result(std::move(result));
    return;
  }
  std::lock_guard lock(mutex_);
  RankState& state = record_.ranks[rank];
  state.last_heard_ns = NowNs();
  switch (type) {
    case pipeline::MessageType::kReady:
      state.ready = true;
      break;
    case pipeline::MessageType::kHeartbeat: {
      pipeline::Heartbeat heartbeat = pipeline::DecodeHeartbeat(frame.payload);
      if (heartbeat.wait.has_value())
        heartbeat.wait->since_ns = state.last_heard_ns - heartbeat.wait->since_ns;
      heartbeat.period.begin_ns = state.last_heard_ns - heartbeat.period.begin_ns;
      heartbeat.period.end_ns = state.last_heard_ns - heartbeat.period.end_ns;
      if (heartbeat.progress != state.heartbeat.progress) state.last_progress_ns = state.last_heard_ns;
      state.heartbeat = std::move(heartbeat);
      state.answered = std::max(state.answered, frame.step);
      break;
    }
    case pipeline::MessageType::kFailed: {
      const pipeline::Failure failure = pipeline::DecodeFailure(frame.payload);
      state.failure = failure.sentence;
      out_of_memory_ = out_of_memory_ || failure.kind == ErrorKind::kMemory;
      state.accused = failure.accused < settings_.grid.world() ? failure.accused : -1;
      state.failure_is_a_lost_peer = failure.kind == ErrorKind::kRankLost && state.accused < 0;
      break;
    }
    case pipeline::MessageType::kDump:
      dumps_[rank] = frame.payload.bytes();
      break;
    case pipeline::MessageType::kSpans:
      spans_[rank] = frame.payload.bytes();
      break;
    case pipeline::MessageType::kEvents:
      rings_[rank] = frame.payload.bytes();
      break;
    case pipeline::MessageType::kClock:
      clocks_[rank] = {frame.step, heard_ns, pipeline::DecodeClockReading(frame.payload)};
      break;
    default:
      Fail(ErrorKind::kRankLost, "it sent a frame of unknown type {}", frame.type);
  }
  changed_.notify_all();
}

void Job::Watch() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait_for(lock, kWatchEvery);
    if (stopping_ || !standing_.ended.empty()) continue;
    const int64_t now_ns = NowNs();
    NotePassed(record_, now_ns);
    const auto verdict = FindVerdict(record_, {settings_.wait_limit, /*judges_computing=*/true}, now_ns);
    if (!verdict.has_value()) {
      NoteStall(FindVerdict(record_, {settings_.stall_limit, /*judges_computing=*/false}, now_ns));
      continue;
    }
    standing_.ended = verdict->sentence;
    standing_.rank = verdict->rank;
    changed_.notify_all();
    lock.unlock();
    spdlog::error("{}", verdict->sentence);
    if (events_.on_end) events_.on_end(verdict->sentence);
    lock.lock();
  }
}

void Job::NoteStall(const std::optional<Verdict>& stall) {
  if (!stall.has_value()) {
    if (standing_.stalled.empty()) return;
    spdlog::info("the stall is over after {:.1f} s: {} has arrived",
                 static_cast<double>(NowNs() - stalled_since_ns_) / 1e9,
                 DescribeRank(record_, standing_.rank));
    standing_ = {};
    return;
  }
  if (standing_.stalled.empty()) {
    stalled_since_ns_ = NowNs();
    if (events_.on_stall) events_.on_stall();
  }
  if (stall->rank != standing_.rank) spdlog::warn("stalled: {}", stall->sentence);
  standing_.stalled = stall->sentence;  // with its latest ages
  standing_.rank = stall->rank;
}

void Job::Publish(const std::vector<step::Step>& group) {
  {
    std::lock_guard lock(mutex_);
    if (!standing_.ended.empty()) throw Error(ErrorKind::kRankLost, standing_.ended);
    for (const step::Step& step : group) record_.due.push_back({step.id, NowNs()});
  }
  for (int visit = 0; visit < settings_.grid.virtual_stages; ++visit) {
    for (const step::Step& step : group) {
      comm::Frame frame = visit == 0 ? pipeline::FrameOf(pipeline::MessageType::kPublish, Encode(step))
                                     : pipeline::FrameOf(pipeline::MessageType::kPass);
      frame.step = static_cast<uint64_t>(step.id);
      frame.pass = static_cast<uint32_t>(visit);
      for (int rank = 0; rank < settings_.grid.world(); ++rank) SendIfThere(rank, frame);
    }
  }
}

std::vector<std::byte> Job::Ask(int rank, comm::Frame request, std::vector<std::vector<std::byte>>& answers) {
  {
    std::lock_guard lock(mutex_);
    answers[rank].clear();
    turns_[rank].Asked(request);
  }
  ranks_->channel(rank).Send(request);
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kAnswerLimit,
                         [&] { return !answers[rank].empty() || !standing_.ended.empty(); })) {
    Fail(ErrorKind::kRankLost, "{} did not answer within 60 s", DescribeRank(record_.grid, rank));
  }
  if (answers[rank].empty()) throw Error(ErrorKind::kRankLost, standing_.ended);
  return std::move(answers[rank]);
}

std::vector<std::byte> Job::DumpCache(int rank, const std::vector<int32_t>& pages, int64_t tokens) {
  return Ask(
      rank,
      pipeline::FrameOf(pipeline::MessageType::kDumpRequest, Encode(pipeline::DumpRequest{pages, tokens})),
      dumps_);
}

pipeline::RecordedTime Job::Recorded(int rank) {
  return pipeline::DecodeRecordedTime(
      Ask(rank, pipeline::FrameOf(pipeline::MessageType::kSpansRequest), spans_));
}

std::optional<trace::RankEvents> Job::Events(int rank, uint64_t from, Duration limit) {
  std::vector<std::byte> payload;
  const auto over = [&] { return record_.ranks[rank].gone || !record_.ranks[rank].failure.empty(); };
  {
    std::lock_guard lock(mutex_);
    if (over()) {
      payload = rings_[rank];  // of its failure
    } else {
      rings_[rank].clear();
    }
  }
  if (payload.empty()) {
    comm::Frame request = pipeline::FrameOf(pipeline::MessageType::kEventsRequest);
    request.step = from;
    SendIfThere(rank, request);
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, limit, [&] { return !rings_[rank].empty() || over(); });
    payload = rings_[rank];
  }
  if (payload.empty()) return std::nullopt;
  return pipeline::DecodeRankEvents(payload);
}

std::optional<std::vector<trace::ClockPoint>> Job::Clock(int rank, Duration limit) {
  const Deadline deadline = sluice::Clock::now() + limit;
  const std::string own = trace::ClockIdentity();
  trace::ClockProbe probe;
  for (int i = 0; i < kClockProbes && sluice::Clock::now() < deadline; ++i) {
    comm::Frame request = pipeline::FrameOf(pipeline::MessageType::kClockRequest);
    {
      std::lock_guard lock(mutex_);
      if (record_.ranks[rank].gone) break;
      request.step = ++clock_requests_;
    }
    const int64_t sent_ns = NowNs();
    SendIfThere(rank, request);
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, deadline, [&] {
          return clocks_[rank].number == request.step || record_.ranks[rank].gone;
        })) {
      break;
    }
    const HeardClock& heard = clocks_[rank];
    if (heard.number != request.step) break;
    if (!own.empty() && heard.reading.identity == own) return std::vector<trace::ClockPoint>{};
    probe.Add(sent_ns, heard.heard_ns, heard.reading.now_ns);
  }
  if (!probe.best().has_value()) return std::nullopt;
  return std::vector<trace::ClockPoint>{*probe.best()};
}

std::vector<RankState> Job::States() {
  comm::Frame request = pipeline::FrameOf(pipeline::MessageType::kHeartbeatRequest);
  {
    std::lock_guard lock(mutex_);
    request.step = ++heartbeat_requests_;
  }
  for (int rank = 0; rank < settings_.grid.world(); ++rank) SendIfThere(rank, request);
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kStateLimit, [&] {
    return std::all_of(record_.ranks.begin(), record_.ranks.end(),
                       [&](const RankState& s) { return s.answered >= request.step; });
  });
  return record_.ranks;
}

// The end of a connection is noticed by the rank's listener, and the watchdog names the rank.
void Job::SendIfThere(int rank, const comm::Frame& frame) {
  try {
    ranks_->channel(rank).Send(frame);
  } catch (const Error& error) {
    spdlog::debug("{}: {}", DescribeRank(record_.grid, rank), error.what());
  }
}

std::string Job::verdict() const { return standing().ended; }

Standing Job::standing() const {
  std::lock_guard lock(mutex_);
  return standing_;
}

JobRecord Job::Record() const {
  std::lock_guard lock(mutex_);
  return record_;
}

void Job::Stop() {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    changed_.notify_all();
  }
  const auto reason = std::as_bytes(std::span(standing_.ended));
  for (int rank = 0; rank < settings_.grid.world(); ++rank) {
    SendIfThere(rank, pipeline::FrameOf(pipeline::MessageType::kShutdown, {reason.begin(), reason.end()}));
  }
  ranks_->Stop(kStopGrace);
  for (int rank = 0; rank < settings_.grid.world(); ++rank) ranks_->channel(rank).Close();
  for (std::thread& listener : listeners_) listener.join();
  watchdog_.join();
}

}  // namespace sluice::engine
