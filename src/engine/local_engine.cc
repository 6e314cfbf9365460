#include "engine/local_engine.h"

#include <algorithm>
#include <utility>

#include "checkpoint/nextn.h"
#include "engine/stall_report.h"

namespace sluice::engine {
namespace {

constexpr int64_t kQueuedCaches = 16;  // EngineOptions::max_queued_tokens

TokenLogprobs LogprobsOf(const ops::Sampled& sampled) {
  TokenLogprobs logprobs{sampled.logprob, {}};
  for (const auto& entry : sampled.top) logprobs.top.push_back({entry.token, entry.logprob});
  return logprobs;
}

schedule::Limits LimitsFor(const JobSettings& settings, const EngineOptions& options) {
  schedule::Limits limits = LimitsOf(settings, options.chunk_rows, options.max_running);
  limits.prefill_rows = options.prefill_rows;
  limits.step_sequences = options.step_sequences;
  limits.keeps_prefixes = options.keeps_prefixes;
  limits.by_priority = options.by_priority;
  limits.low_values_first = options.low_values_first;
  return limits;
}

EngineInfo InfoOf(const JobSettings& settings, const EngineOptions& options,
                  const checkpoint::ModelConfig& config, bool checkpoint_is_fp8) {
  EngineInfo info;
  info.vocab_size = config.vocab_size;
  info.context_length = options.context_length > 0 ? options.context_length : config.max_position_embeddings;
  info.max_total_tokens = settings.cache_pages * ops::kPageTokens;
  for (const int64_t id : config.eos_token_ids) info.eos_token_ids.push_back(static_cast<int32_t>(id));
  info.numerics = NumericsOf(settings.numerics, checkpoint_is_fp8) == ops::Numerics::kExact ? "exact" : "fp8";
  const ops::Numerics numerics = NumericsOf(settings.numerics, checkpoint_is_fp8);
  info.lanes = settings.grid.lanes;
  info.expert_sum_bytes = config.hidden_size * SizeOf(ops::ActivationType(numerics));
  info.expert_row_bytes = numerics == ops::Numerics::kFp8 && checkpoint_is_fp8
                              ? ops::QuantizedRowBytes(config.hidden_size)
                              : info.expert_sum_bytes;
  info.priority_scheduling = options.by_priority;
  info.prefix_cache = options.keeps_prefixes;
  return info;
}

}  // namespace

LocalEngine::LocalEngine(const JobSettings& settings, const EngineOptions& options,
                         const checkpoint::ModelConfig& config, bool checkpoint_is_fp8,
                         std::unique_ptr<RankSet> ranks)
    : settings_(settings),
      info_(InfoOf(settings, options, config, checkpoint_is_fp8)),
      layer_cut_(LayerCutOf(settings, config)),
      mtp_layers_(settings.load_nextn ? checkpoint::NextnLayers(config) : std::vector<int64_t>{}),
      scheduler_(LimitsFor(settings, options)),
      queue_bound_{options.max_queued, options.max_queued_tokens > 0
                                           ? options.max_queued_tokens
                                           : kQueuedCaches * info_.max_total_tokens},
      load_{0, 0, 0, info_.max_total_tokens},
      step_log_(options.decode_log_interval, [this] { return Bubble(); }),
      traces_(options.trace, settings.grid) {
  JobEvents events;
  events.on_stall = [this] { traces_.Stalled(); };
  events.on_result = [this](step::StepResult result) {
    traces_.Completed(result.id);
    std::lock_guard lock(mutex_);
    results_.push_back(std::move(result));
    something_.notify_all();
  };
  events.on_end = [this](const std::string& verdict) {
    traces_.Ended();
    std::lock_guard lock(mutex_);
    ended_ = verdict;
    something_.notify_all();
    turn_done_.notify_all();
  };
  job_ = std::make_unique<Job>(settings, std::move(ranks), std::move(events));
  traces_.Begin(*job_);
  worker_ = std::thread([this] { Work(); });
}

LocalEngine::~LocalEngine() { Stop(); }

void LocalEngine::Stop() {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    something_.notify_all();
    turn_done_.notify_all();
  }
  worker_.join();
  traces_.Stop();
  job_->Stop();
}

void LocalEngine::Abort(RequestId id) {
  std::lock_guard lock(mutex_);
  aborted_.push_back(id);
  something_.notify_all();
}

bool LocalEngine::FlushCache() {
  std::unique_lock lock(mutex_);
  if (!ended_.empty() || stopping_) return false;
  const int64_t asked = ++flushes_asked_;
  something_.notify_all();
  turn_done_.wait(lock, [&] { return flushes_done_ >= asked || !ended_.empty() || stopping_; });
  return flushes_done_ >= asked && flushed_;
}

void LocalEngine::Finish(RequestId id, FinishReason reason, Event event) {
  const auto it = running_.find(id);
  event.finish = reason;
  event.started_ns = it->second.started_ns;
  event.prompt_tokens_done = it->second.prompt_done;
  event.cached_tokens = it->second.cached_tokens;
  const EventSink sink = std::move(it->second.sink);
  traces_.RequestEnded(id, static_cast<double>(NowNs() - it->second.submitted_ns) / 1e9);
  running_.erase(it);
  scheduler_.End(id);
  ShowLoad();  // who hears of an end, and asks, finds it counted
  sink(std::move(event));
}

void LocalEngine::Deliver(const step::StepResult& result) {
  scheduler_.Completed(result);
  const int64_t now = NowNs();
  prefill_rate_.Completed(now);
  step_log_.Completed(result.id, CurrentLoad(), now);
  for (const step::SequenceResult& sequence : result.sequences) {
    const auto it = running_.find(sequence.sequence);
    if (it == running_.end()) continue;  // ended while the step was under way
    Running& running = it->second;
    const int64_t prompt = running.prompt_tokens;
    Event event;
    if (running.prompt_done < prompt) {
      running.prompt_done = scheduler_.PromptRowsDone(sequence.sequence);
      // Entry i + 1 belongs to prompt token i + 1, which row i predicted; the last row predicts no prompt
      // token.
      if (running.request.prompt_logprobs && running.prompt_logprobs.empty())
        running.prompt_logprobs.emplace_back();
      for (const ops::Sampled& row : sequence.prompt_logprobs) {
        if (row.token >= 0) running.prompt_logprobs.push_back(LogprobsOf(row));
      }
      if (running.prompt_done == prompt) event.prompt_logprobs = std::move(running.prompt_logprobs);
    }
    event.prompt_tokens_done = running.prompt_done;
    event.cached_tokens = running.cached_tokens;
    event.started_ns = running.started_ns;
    if (sequence.sampled) {
      ++running.generated;
      const auto& stops = running.request.stop_token_ids;
      if (std::find(stops.begin(), stops.end(), sequence.token.token) != stops.end()) {
        event.stop_token = sequence.token.token;
        event.stop_logprobs = LogprobsOf(sequence.token);
        Finish(sequence.sequence, FinishReason::kStop, std::move(event));
        continue;
      }
      event.tokens.push_back(sequence.token.token);
      event.logprobs.push_back(LogprobsOf(sequence.token));
      if (running.control != nullptr) {
        const AnswerControl::Next next = running.control->Accept(sequence.token.token);
        if (next != AnswerControl::Next::kAnyToken) {
          const bool whole = next == AnswerControl::Next::kEnd;
          if (!whole) event.error = "no token of the vocabulary continues the answer as its grammar asks";
          Finish(sequence.sequence, whole ? FinishReason::kStop : FinishReason::kError, std::move(event));
          continue;
        }
      }
    }
    if (running.prompt_done == prompt && running.generated >= running.request.max_tokens) {
      Finish(sequence.sequence, FinishReason::kLength, std::move(event));
    } else {
      running.sink(std::move(event));
    }
  }
}

void LocalEngine::EndAll(const std::string& sentence) {
  while (!running_.empty()) {
    Event event;
    event.error = sentence;
    Finish(running_.begin()->first, FinishReason::kError, std::move(event));
  }
}

void LocalEngine::NoteStep(const step::Step& step) {
  const int64_t now = NowNs();
  StepLog::Content content;
  for (const step::StepSequence& part : step.sequences) {
    Running& running = running_.at(part.sequence);
    const auto rows = static_cast<int64_t>(part.tokens.size());
    const bool prompt = part.first_position < running.prompt_tokens;
    (prompt ? content.prompt_rows : content.decode_rows) += rows;
    if (running.started_ns != 0) continue;
    running.started_ns = now;
    running.prompt_done = running.cached_tokens = scheduler_.CachedTokens(part.sequence);
    content.cached_tokens += running.cached_tokens;
    ++content.new_sequences;
    Event event;
    event.started_ns = now;
    event.prompt_tokens_done = event.cached_tokens = running.cached_tokens;
    running.sink(std::move(event));
  }
  step_log_.Published(step.id, content, now);
  prefill_rate_.Published(content.prompt_rows, now);
}

void LocalEngine::Adjust(step::Step& step) const {
  for (step::StepSequence& part : step.sequences) {
    if (!part.sample) continue;
    const Running& running = running_.at(part.sequence);
    if (running.control == nullptr) continue;
    const int64_t next = part.first_position + std::ssize(part.tokens);
    part.adjust = running.control->AdjustFor(next - running.prompt_tokens);
  }
}

void LocalEngine::PublishReady() {
  for (auto group = scheduler_.NextGroup(); !group.empty(); group = scheduler_.NextGroup()) {
    for (step::Step& step : group) {
      NoteStep(step);
      Adjust(step);
    }
    job_->Publish(group);
  }
}

void LocalEngine::Take(std::deque<std::pair<RequestId, Running>> submitted) {
  for (auto& [id, running] : submitted) {
    Request& request = running.request;
    schedule::NewSequence sequence;
    sequence.id = id;
    sequence.prompt = std::move(request.prompt);
    sequence.max_tokens = request.max_tokens;
    sequence.prompt_logprobs = request.prompt_logprobs;
    sequence.sampling = {request.temperature, request.top_p,        request.top_k,
                         request.seed,        request.top_logprobs, request.min_p};
    sequence.token_by_token = running.control != nullptr && running.control->token_by_token();
    sequence.priority = request.priority;
    sequence.probe = request.probe;
    sequence.deadline_ns = request.deadline_ns;
    sequence.cache_salt = std::move(request.cache_salt);
    scheduler_.Add(std::move(sequence));
    running_.emplace(id, std::move(running));
  }
}

void LocalEngine::EndExpired() {
  for (const RequestId id : scheduler_.Expired(NowNs())) Finish(id, FinishReason::kDeadline, {});
}

void LocalEngine::Work() {
  while (true) {
    std::deque<std::pair<RequestId, Running>> submitted;
    std::deque<RequestId> aborted;
    std::deque<step::StepResult> results;
    std::string ended;
    bool stopping = false;
    int64_t flushes_asked = 0;
    {
      std::unique_lock lock(mutex_);
      const auto something = [this] {
        return stopping_ || !submitted_.empty() || !aborted_.empty() || !results_.empty() ||
               flushes_asked_ > flushes_done_ || (!ended_.empty() && !running_.empty());
      };
      if (next_deadline_ns_ == 0) {
        something_.wait(lock, something);
      } else {
        something_.wait_for(lock, Duration(std::max<int64_t>(0, next_deadline_ns_ - NowNs())), something);
      }
      submitted.swap(submitted_);
      aborted.swap(aborted_);
      results.swap(results_);
      ended = ended_;
      stopping = stopping_;
      flushes_asked = flushes_asked_;
      in_turn_ = true;
    }
    Take(std::move(submitted));
    try {
      for (const step::StepResult& result : results) Deliver(result);
      for (const RequestId id : aborted) {
        if (running_.contains(id)) Finish(id, FinishReason::kAbort, {});
      }
      if (stopping) return EndAll("the server is shutting down");
      if (!ended.empty()) throw Error(ErrorKind::kRankLost, ended);
      EndExpired();
      if (flushes_asked > flushes_done_) Flush(flushes_asked);
      PublishReady();
    } catch (const Error& error) {
      // A result out of turn means that the ranks and the scheduler no longer agree: nothing can go on.
      EndAll(error.what());
      std::lock_guard lock(mutex_);
      if (ended_.empty()) ended_ = error.what();
      flushes_done_ = flushes_asked;
      flushed_ = false;
    }
    NoteLoad();
  }
}

void LocalEngine::Flush(int64_t asked) {
  const bool flushed = scheduler_.Flush();
  std::lock_guard lock(mutex_);
  flushes_done_ = asked;
  flushed_ = flushed;
}

StallReport LocalEngine::Report() const { return MakeStallReport(job_->Record(), job_->standing(), NowNs()); }

std::vector<RankInfo> LocalEngine::Ranks() {
  std::vector<RankInfo> infos;
  const std::vector<RankState> states = job_->States();
  for (int rank = 0; rank < settings_.grid.world(); ++rank) {
    const auto& heartbeat = states[rank].heartbeat;
    const parallel::Grid& grid = settings_.grid;
    std::vector<std::pair<int64_t, int64_t>> layers;
    for (int range = grid.StageOf(rank); range < grid.layer_ranges(); range += grid.stages) {
      layers.emplace_back(layer_cut_[range].begin, layer_cut_[range].end);
    }
    infos.push_back({rank, grid.StageOf(rank), grid.LaneOf(rank), std::move(layers),
                     grid.StageOf(rank) == grid.stages - 1 ? mtp_layers_ : std::vector<int64_t>{},
                     heartbeat.rows_computed, heartbeat.hop_bytes_sent, heartbeat.hop_bytes_received,
                     heartbeat.hop_selection_bytes_sent, heartbeat.expert_choice_bytes,
                     heartbeat.expert_dispatch_bytes, heartbeat.expert_return_bytes,
                     heartbeat.expert_row_owners, heartbeat.times, heartbeat.period});
  }
  return infos;
}

}  // namespace sluice::engine
