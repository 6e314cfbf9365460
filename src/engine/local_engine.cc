#include "engine/local_engine.h"

#include <algorithm>
#include <utility>

#include "engine/stall_report.h"

namespace sluice::engine {
namespace {

TokenLogprobs LogprobsOf(const ops::Sampled& sampled) {
  TokenLogprobs logprobs{sampled.logprob, {}};
  for (const auto& entry : sampled.top) logprobs.top.push_back({entry.token, entry.logprob});
  return logprobs;
}

schedule::Limits LimitsFor(const JobSettings& settings, const EngineOptions& options) {
  schedule::Limits limits = LimitsOf(settings, options.chunk_rows, options.max_running);
  limits.prefill_rows = options.prefill_rows;
  limits.step_sequences = options.step_sequences;
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
  return info;
}

}  // namespace

LocalEngine::LocalEngine(const JobSettings& settings, const EngineOptions& options,
                         const checkpoint::ModelConfig& config, bool checkpoint_is_fp8,
                         std::unique_ptr<RankSet> ranks)
    : settings_(settings),
      info_(InfoOf(settings, options, config, checkpoint_is_fp8)),
      layer_cut_(LayerCutOf(settings, config)),
      scheduler_(LimitsFor(settings, options)),
      load_{0, 0, 0, info_.max_total_tokens},
      step_log_(options.decode_log_interval, [this] { return Bubble(); }) {
  JobEvents events;
  events.on_result = [this](step::StepResult result) {
    std::lock_guard lock(mutex_);
    results_.push_back(std::move(result));
    something_.notify_all();
  };
  events.on_end = [this](const std::string& verdict) {
    std::lock_guard lock(mutex_);
    ended_ = verdict;
    something_.notify_all();
  };
  job_ = std::make_unique<Job>(settings, std::move(ranks), std::move(events));
  worker_ = std::thread([this] { Work(); });
}

LocalEngine::~LocalEngine() { Stop(); }

void LocalEngine::Stop() {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    something_.notify_all();
  }
  worker_.join();
  job_->Stop();
}

RequestId LocalEngine::Submit(Request request, EventSink sink) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt == 0) Fail(ErrorKind::kBadRequest, "the prompt is empty: at least one token is needed");
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= info_.vocab_size) {
      Fail(ErrorKind::kBadRequest, "token id {} is outside the vocabulary of {}", token, info_.vocab_size);
    }
  }
  const int64_t limit = std::min(info_.context_length, info_.max_total_tokens);
  if (request.max_tokens < 0 || request.max_tokens > limit || prompt + request.max_tokens > limit) {
    Fail(ErrorKind::kBadRequest,
         "this model's maximum context length is {} tokens; the prompt has {} and max_tokens asks for {} "
         "more: shorten the prompt or lower max_tokens",
         limit, prompt, request.max_tokens);
  }
  std::lock_guard lock(mutex_);
  if (!ended_.empty()) throw Error(ErrorKind::kRankLost, ended_);
  if (stopping_) Fail(ErrorKind::kRankLost, "the server is shutting down");
  const RequestId id = next_id_++;
  submitted_.emplace_back(id, Running{std::move(request), std::move(sink), prompt, 0, 0, 0, {}});
  something_.notify_all();
  return id;
}

void LocalEngine::Abort(RequestId id) {
  std::lock_guard lock(mutex_);
  aborted_.push_back(id);
  something_.notify_all();
}

bool LocalEngine::FlushCache() {
  std::lock_guard lock(mutex_);
  return submitted_.empty() && load_.running + load_.waiting == 0;  // no prefix outlives its request
}

void LocalEngine::Finish(RequestId id, FinishReason reason, Event event) {
  const auto it = running_.find(id);
  event.finish = reason;
  event.started_ns = it->second.started_ns;
  it->second.sink(std::move(event));
  running_.erase(it);
  scheduler_.End(id);
}

void LocalEngine::Deliver(const step::StepResult& result) {
  scheduler_.Completed(result);
  step_log_.Completed(result.id, CurrentLoad(), NowNs());
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
    event.started_ns = running.started_ns;
    if (sequence.sampled) {
      ++running.generated;
      const auto& stops = running.request.stop_token_ids;
      if (std::find(stops.begin(), stops.end(), sequence.token.token) != stops.end()) {
        event.stop_token = sequence.token.token;
        Finish(sequence.sequence, FinishReason::kStop, std::move(event));
        continue;
      }
      event.tokens.push_back(sequence.token.token);
      event.logprobs.push_back(LogprobsOf(sequence.token));
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

EngineLoad LocalEngine::CurrentLoad() const {
  const int64_t pages = scheduler_.pages() - scheduler_.free_pages();
  return {scheduler_.running(), scheduler_.waiting(), pages * ops::kPageTokens, info_.max_total_tokens};
}

EngineLoad LocalEngine::Load() const {
  std::lock_guard lock(mutex_);
  return load_;
}

// As of the ranks' last heartbeats: the log waits for nobody.
std::optional<double> LocalEngine::Bubble() const {
  std::vector<trace::BusyPeriod> periods;
  std::vector<int32_t> stages;
  for (const RankState& rank : job_->Record().ranks) {
    stages.push_back(settings_.grid.StageOf(static_cast<int>(periods.size())));
    periods.push_back(rank.heartbeat.period);
  }
  const auto busy = trace::BusySharesOf(periods, stages);
  return busy.has_value() ? std::optional(busy->all.bubble()) : std::nullopt;
}

void LocalEngine::NoteLoad() {
  const EngineLoad load = CurrentLoad();
  std::lock_guard lock(mutex_);
  load_ = load;
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
    ++content.new_sequences;
    content.cached_tokens += part.first_position;  // its first row comes after what was cached
  }
  step_log_.Published(step.id, content, now);
}

void LocalEngine::PublishReady() {
  for (auto group = scheduler_.NextGroup(); !group.empty(); group = scheduler_.NextGroup()) {
    for (const step::Step& step : group) NoteStep(step);
    job_->Publish(group);
  }
}

void LocalEngine::Work() {
  while (true) {
    std::deque<std::pair<RequestId, Running>> submitted;
    std::deque<RequestId> aborted;
    std::deque<step::StepResult> results;
    std::string ended;
    bool stopping = false;
    {
      std::unique_lock lock(mutex_);
      something_.wait(lock, [this] {
        return stopping_ || !submitted_.empty() || !aborted_.empty() || !results_.empty() ||
               (!ended_.empty() && !running_.empty());
      });
      submitted.swap(submitted_);
      aborted.swap(aborted_);
      results.swap(results_);
      ended = ended_;
      stopping = stopping_;
    }
    for (auto& [id, running] : submitted) {
      Request& request = running.request;
      scheduler_.Add(
          {id,
           std::move(request.prompt),
           request.max_tokens,
           request.prompt_logprobs,
           {request.temperature, request.top_p, request.top_k, request.seed, request.top_logprobs}});
      running_.emplace(id, std::move(running));
    }
    try {
      for (const step::StepResult& result : results) Deliver(result);
      for (const RequestId id : aborted) {
        if (running_.contains(id)) Finish(id, FinishReason::kAbort, {});
      }
      if (stopping) return EndAll("the server is shutting down");
      if (!ended.empty()) throw Error(ErrorKind::kRankLost, ended);
      PublishReady();
      NoteLoad();
    } catch (const Error& error) {
      // A result out of turn means that the ranks and the scheduler no longer agree: nothing can go on.
      std::lock_guard lock(mutex_);
      if (ended_.empty()) ended_ = error.what();
      EndAll(error.what());
    }
  }
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
    infos.push_back({rank, grid.StageOf(rank), grid.LaneOf(rank), std::move(layers), heartbeat.rows_computed,
                     heartbeat.hop_bytes_sent, heartbeat.hop_bytes_received, heartbeat.expert_choice_bytes,
                     heartbeat.expert_dispatch_bytes, heartbeat.expert_return_bytes,
                     heartbeat.expert_row_owners, heartbeat.times, heartbeat.period});
  }
  return infos;
}

}  // namespace sluice::engine
