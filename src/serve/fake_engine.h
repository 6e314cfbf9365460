#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/engine.h"

namespace sluice::serve {

// What the fake engine does with one request.
struct Script {
  std::vector<int32_t> tokens;            // sampled one by one, as far as max_tokens allows
  bool hold = false;                      // after the tokens: never ends
  std::string error;                      // after the tokens: kError
  std::chrono::milliseconds interval{0};  // before each token
  int tokens_per_event = 1;
  int64_t cached_tokens = 0;         // of the prompt, as the first event says
  int64_t prompt_tokens_a_step = 0;  // events before the tokens say so much more of the prompt; 0: none
  bool deadline = false;             // after the tokens: kDeadline
};

// An engine for tests of the server: answers by script from its own thread, as the real one does. The
// log-probability of the token at place i is -(i + 1) / 8, of its k-th alternative 1/16 (k) less; of prompt
// token i -(i + 1) / 4.
class FakeEngine : public engine::Engine {
 public:
  using Writer = std::function<Script(const engine::Request&)>;

  FakeEngine(engine::EngineInfo info, Writer writer)
      : info_(std::move(info)), writer_(std::move(writer)), thread_([this] { Work(); }) {}
  ~FakeEngine() override {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  const engine::EngineInfo& info() const override { return info_; }

  engine::RequestId Submit(engine::Request request, engine::EventSink sink) override {
    const std::lock_guard lock(mutex_);
    if (!verdict_.empty()) Fail(ErrorKind::kRankLost, "{}", verdict_);
    if (!queue_full_.empty() && !request.probe) throw engine::QueueFull(queue_full_, retry_after_seconds_);
    if (!unreachable_.empty() && request.deadline_ns != 0)
      throw engine::DeadlineUnreachable(unreachable_, 7.5);
    requests_.push_back(request);
    Job job{std::move(request), std::move(sink), {}, 0, std::chrono::steady_clock::now()};
    job.script = writer_(job.request);
    jobs_.emplace(++last_id_, std::move(job));
    changed_.notify_all();
    return last_id_;
  }

  void Abort(engine::RequestId id) override {
    const std::lock_guard lock(mutex_);
    if (jobs_.erase(id) > 0) ++aborts_;
    changed_.notify_all();
  }

  bool FlushCache() override {
    const std::lock_guard lock(mutex_);
    if (!jobs_.empty()) return false;
    ++flushes_;
    return true;
  }

  std::vector<engine::RankInfo> Ranks() override {
    engine::RankInfo rank;
    rank.rank = 1;
    rank.stage = 1;
    rank.layers = {{2, 4}, {6, 8}};
    rank.rows_computed = 41;
    rank.mtp_layers = {8};
    rank.hop_bytes_sent = 42;
    rank.hop_bytes_received = 43;
    rank.hop_selection_bytes_sent = 7;
    rank.times = {2'000'000'000, 500'000'000, 250'000'000, 1'000'000'000};
    rank.period = {7, 1'000'000'000, 5'000'000'000, {2'000'000'000, 0, 1'000'000'000, 1'000'000'000}};
    return {engine::RankInfo{}, rank};
  }

  engine::EngineLoad Load() const override {
    const std::lock_guard lock(mutex_);
    return {static_cast<int64_t>(jobs_.size()), 2, 128, 2000};
  }

  std::string Verdict() const override {
    const std::lock_guard lock(mutex_);
    return verdict_;
  }

  std::string Stall() const override {
    const std::lock_guard lock(mutex_);
    return stall_;
  }
  engine::StallReport Report() const override {
    const std::lock_guard lock(mutex_);
    engine::StallReport report;
    report.ended = !verdict_.empty();
    report.verdict = report.ended ? verdict_ : stall_;
    report.named_rank = report.verdict.empty() ? -1 : 1;
    report.due_steps = {42};
    report.ranks.resize(2);
    engine::RankReport& rank = report.ranks[1];
    rank.rank = rank.stage = 1;
    rank.host = "node-b";
    rank.activity = "waits";
    rank.step = 42;
    rank.op = "hop receive";
    rank.peer = 0;
    rank.bytes = 4096;
    report.text = "the table";
    return report;
  }

  // Profiles of one rank with seven events, of which two are lost.
  void StartProfile(const engine::ProfileRequest& request, engine::TraceSink sink) override {
    {
      const std::lock_guard lock(mutex_);
      if (profiling_) Fail(ErrorKind::kBadRequest, "a profile is under way already");
      profiling_ = true;
      profile_ = request;
    }
    sink({true, "profiling has started", {}, 0, 0});
  }
  void StopProfile(engine::TraceSink sink) override {
    {
      const std::lock_guard lock(mutex_);
      if (!profiling_) Fail(ErrorKind::kBadRequest, "no profile is under way");
      profiling_ = false;
    }
    sink({true, "written", {"rank-0.sltrace"}, 7, 2});
  }
  void DumpTrace(const std::string& output_dir, engine::TraceSink sink) override {
    if (output_dir == "full") return sink({false, "the disk is full", {}, 0, 0});
    sink({true, "written", {output_dir + "/rank-0.sltrace"}, 7, 2});
  }
  // What the last profile was asked to be.
  engine::ProfileRequest profile() const {
    const std::lock_guard lock(mutex_);
    return profile_;
  }

  void SetStall(std::string stall) {
    const std::lock_guard lock(mutex_);
    stall_ = std::move(stall);
  }
  void SetVerdict(std::string verdict) {
    const std::lock_guard lock(mutex_);
    verdict_ = std::move(verdict);
  }
  // From now on Submit refuses all but probes with this sentence; empty: it takes them again.
  void SetQueueFull(std::string sentence, double retry_after_seconds) {
    const std::lock_guard lock(mutex_);
    queue_full_ = std::move(sentence);
    retry_after_seconds_ = retry_after_seconds;
  }
  // From now on Submit refuses requests with a deadline with this sentence and a wait of 7.5 s.
  void SetDeadlineUnreachable(std::string sentence) {
    const std::lock_guard lock(mutex_);
    unreachable_ = std::move(sentence);
  }
  int flushes() const {
    const std::lock_guard lock(mutex_);
    return flushes_;
  }
  int aborts() const {
    const std::lock_guard lock(mutex_);
    return aborts_;
  }
  std::size_t running() const {
    const std::lock_guard lock(mutex_);
    return jobs_.size();
  }
  // The requests submitted so far.
  std::vector<engine::Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  struct Job {
    engine::Request request;
    engine::EventSink sink;
    Script script;
    std::size_t done;
    std::chrono::steady_clock::time_point due;
    bool silent = false;  // holds for ever
    int64_t prompt_done = 0;
    int64_t submitted_ns = NowNs();
  };

  static engine::TokenLogprobs Logprobs(const engine::Request& request, int32_t token, float value) {
    engine::TokenLogprobs logprobs{value, {}};
    for (int32_t k = 0; k < request.top_logprobs; ++k) {
      logprobs.top.push_back({token + k, value - 0.0625F * static_cast<float>(k)});
    }
    return logprobs;
  }

  // The job's next event.
  static engine::Event Next(Job& job) {
    engine::Event event;
    const engine::Request& request = job.request;
    if (job.done == 0 && request.prompt_logprobs) {
      for (std::size_t i = 0; i < request.prompt.size(); ++i) {
        event.prompt_logprobs.push_back(
            i == 0 ? engine::TokenLogprobs{}
                   : Logprobs(request, request.prompt[i], -0.25F * static_cast<float>(i + 1)));
      }
    }
    event.started_ns = job.submitted_ns;  // the log-probabilities come with the end of the prompt
    event.cached_tokens = job.script.cached_tokens;
    const auto prompt = static_cast<int64_t>(request.prompt.size());
    job.prompt_done = std::max(job.prompt_done, job.script.cached_tokens);
    const int64_t step = job.script.prompt_tokens_a_step > 0 ? job.script.prompt_tokens_a_step : prompt;
    job.prompt_done = std::min(prompt, job.prompt_done + step);
    event.prompt_tokens_done = job.prompt_done;
    if (job.prompt_done < prompt) {
      event.prompt_logprobs.clear();
      return event;
    }
    const auto limit = static_cast<std::size_t>(request.max_tokens);
    for (int i = 0; i < job.script.tokens_per_event; ++i) {
      if (job.done >= limit) {
        event.finish = engine::FinishReason::kLength;
        return event;
      }
      if (job.done >= job.script.tokens.size()) {
        if (!job.script.error.empty()) {
          event.finish = engine::FinishReason::kError;
          event.error = job.script.error;
        } else if (job.script.deadline) {
          event.finish = engine::FinishReason::kDeadline;
        } else if (job.script.hold) {
          job.silent = true;
        } else {
          event.finish = engine::FinishReason::kLength;
        }
        return event;
      }
      const int32_t token = job.script.tokens[job.done++];
      if (std::find(request.stop_token_ids.begin(), request.stop_token_ids.end(), token) !=
          request.stop_token_ids.end()) {
        event.finish = engine::FinishReason::kStop;
        event.stop_token = token;
        event.stop_logprobs = Logprobs(request, token, -0.125F * static_cast<float>(job.done));
        return event;
      }
      event.tokens.push_back(token);
      event.logprobs.push_back(Logprobs(request, token, -0.125F * static_cast<float>(job.done)));
    }
    if (job.done >= limit) event.finish = engine::FinishReason::kLength;
    return event;
  }

  void Work() {
    std::unique_lock lock(mutex_);
    while (!ending_) {
      auto next = jobs_.end();
      for (auto job = jobs_.begin(); job != jobs_.end(); ++job) {
        if (!job->second.silent && (next == jobs_.end() || job->second.due < next->second.due)) next = job;
      }
      if (next == jobs_.end()) {
        changed_.wait(lock);
        continue;
      }
      if (next->second.due > std::chrono::steady_clock::now()) {
        changed_.wait_until(lock, next->second.due);
        continue;
      }
      engine::Event event = Next(next->second);
      next->second.due = std::chrono::steady_clock::now() + next->second.script.interval;
      const engine::EventSink sink = next->second.sink;
      if (event.finish) jobs_.erase(next);
      lock.unlock();
      sink(std::move(event));
      lock.lock();
    }
  }

  const engine::EngineInfo info_;
  const Writer writer_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<engine::RequestId, Job> jobs_;
  std::vector<engine::Request> requests_;
  engine::RequestId last_id_ = 0;
  int aborts_ = 0;
  int flushes_ = 0;
  std::string verdict_;
  std::string stall_;
  std::string unreachable_;
  std::string queue_full_;
  double retry_after_seconds_ = 0.0;
  bool profiling_ = false;
  engine::ProfileRequest profile_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace sluice::serve
