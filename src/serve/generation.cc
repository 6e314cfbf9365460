#include "serve/generation.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "serve/sse.h"

namespace sluice::serve {

void Delta::Append(Delta&& more) {
  text.Append(std::move(more.text));
  tokens.insert(tokens.end(), more.tokens.begin(), more.tokens.end());
  logprobs.insert(logprobs.end(), std::make_move_iterator(more.logprobs.begin()),
                  std::make_move_iterator(more.logprobs.end()));
}

Generation::Generation(engine::Engine& engine, GenerationList& list, std::shared_ptr<Exchange> exchange,
                       std::unique_ptr<AnswerShape> shape, GenerationPlan plan, std::vector<Choice> choices)
    : engine_(engine),
      list_(list),
      exchange_(std::move(exchange)),
      shape_(std::move(shape)),
      plan_(std::move(plan)),
      choices_(std::move(choices)),
      id_(plan_.id.empty() ? shape_->id_prefix() + plan_.request_id : plan_.id),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()) {}

void Generation::Start() {
  list_.Add(shared_from_this(), static_cast<int64_t>(choices_.size()), plan_.max_prompts);
  try {
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      if (choices_[i].copy == 0) Submit(i);
    }
  } catch (...) {
    over_ = true;
    AbortRest("refused");
    list_.Remove(this);
    throw;
  }
  exchange_->OnGone([weak = weak_from_this()] {
    if (const auto self = weak.lock(); self && !self->over_) {
      self->AbortRest("client gone");
      self->Leave();
    }
  });
  if (plan_.stream) {
    HttpResponse head;
    head.content_type = kSseMediaType;
    head.headers = plan_.headers;
    head.headers.emplace_back("Cache-Control", "no-cache");
    // SGLang's clients take every line of its native stream for data.
    exchange_->BeginStream(std::move(head), plan_.bare ? "" : kSseKeepAlive);
  }
}

void Generation::Submit(std::size_t index) {
  Choice& choice = choices_[index];
  choice.watch = RequestWatch(plan_.watchers, static_cast<int64_t>(choice.request.prompt.size()));
  choice.watch.Submitted(NowNs());
  choice.watch.Received(NameOf(choice), choice.request);
  // An engine thread calls the sink: it only hands the event over to the exchange's own order.
  choice.id = engine_.Submit(choice.request, [weak = weak_from_this(), index](engine::Event event) {
    const auto self = weak.lock();
    if (!self) return;
    self->exchange_->Post([weak, index, shared = std::make_shared<engine::Event>(std::move(event))] {
      if (const auto alive = weak.lock()) alive->OnEvent(index, std::move(*shared));
    });
  });
  choice.submitted = true;
}

void Generation::SubmitCopies(std::size_t index) {
  for (std::size_t i = index + 1; i < choices_.size() && choices_[i].copy > 0; ++i) {
    if (choices_[i].submitted) return;
    choices_[i].prompt_logprobs = choices_[index].prompt_logprobs;
    choices_[i].request.prompt_logprobs = false;
    Submit(i);
  }
}

void Generation::Fail(ApiError error) {
  exchange_->Post([weak = weak_from_this(), error = std::move(error)] {
    if (const auto self = weak.lock()) self->End(error);
  });
}

void Generation::OnEvent(std::size_t index, engine::Event event) {
  Choice& choice = choices_[index];
  if (over_ || choice.finished) return;
  try {
    choice.watch.Progress(static_cast<int64_t>(event.tokens.size()), event.started_ns, NowNs());
    choice.cached_tokens = std::max(choice.cached_tokens, event.cached_tokens);
    choice.watch.Prompt(event.prompt_tokens_done, event.cached_tokens);
    if (event.finish == engine::FinishReason::kDeadline) {
      return End(ApiError(Refusal::kDeadlineExceeded,
                          "the request's deadline_ms passed before its answer was complete; allow more time "
                          "or ask for less"));
    }
    if (event.finish == engine::FinishReason::kError || event.finish == engine::FinishReason::kAbort) {
      const std::string verdict = engine_.Verdict();
      if (!verdict.empty()) return End(ApiError(Refusal::kRankLost, verdict));
      if (event.finish == engine::FinishReason::kError) return End(ApiError(Refusal::kInternal, event.error));
      return End(
          ApiError(Refusal::kDraining, "the server ended this request before its answer was complete"));
    }
    Delta delta = Take(choice, event);
    const bool more_prompt = event.prompt_tokens_done > choice.prompt_done;
    choice.prompt_done = std::max(choice.prompt_done, event.prompt_tokens_done);
    if (choice.copy == 0 && (event.finish || !event.tokens.empty())) SubmitCopies(index);
    if (plan_.progress && more_prompt) StreamProgress(choice);
    choice.watch.Said(delta.text.reasoning);
    choice.watch.Said(delta.text.content);
    if (event.finish || choice.text.ended()) FinishFrom(choice, event, delta);
    if (plan_.bare) choice.answer.Append(Delta(delta));
    if (plan_.stream) {
      const bool begins = !event.tokens.empty() || !event.prompt_logprobs.empty() || choice.finished;
      if (begins) Stream(choice, delta);
    } else if (!plan_.bare) {
      choice.answer.Append(std::move(delta));
    }
    EndIfAllFinished();
  } catch (const std::exception& exception) {
    End(ToApiError(exception));
  }
}

Delta Generation::Take(Choice& choice, engine::Event& event) {
  SLUICE_CHECK(!plan_.logprobs || event.logprobs.size() == event.tokens.size(),
               "the engine sent {} log-probabilities for {} tokens", event.logprobs.size(),
               event.tokens.size());
  if (!event.prompt_logprobs.empty()) {
    SLUICE_CHECK(event.prompt_logprobs.size() == choice.request.prompt.size(),
                 "the engine sent {} log-probabilities for a prompt of {} tokens",
                 event.prompt_logprobs.size(), choice.request.prompt.size());
    choice.prompt_logprobs = event.prompt_logprobs;
  }
  Delta delta;
  for (std::size_t i = 0; i < event.tokens.size() && !choice.text.ended(); ++i) {
    ++choice.completion_tokens;
    if (choice.text.reasoning()) ++choice.reasoning_tokens;
    delta.text.Append(choice.text.Push(event.tokens[i]));
    delta.tokens.push_back(event.tokens[i]);
    if (!plan_.logprobs) continue;
    // The engine gives as many alternatives as prompt and answer together need.
    auto& top = event.logprobs[i].top;
    top.resize(std::min(top.size(), static_cast<std::size_t>(plan_.top_logprobs)));
    delta.logprobs.push_back(std::move(event.logprobs[i]));
  }
  return delta;
}

void Generation::FinishFrom(Choice& choice, const engine::Event& event, Delta& delta) {
  if (!choice.text.ended()) {
    AnswerText::Piece rest;
    if (plan_.include_stop && event.finish == engine::FinishReason::kStop && event.stop_token >= 0) {
      rest.Append(choice.text.Push(event.stop_token));
    }
    rest.Append(choice.text.Finish());
    choice.watch.Said(rest.reasoning);
    choice.watch.Said(rest.content);
    delta.text.Append(std::move(rest));
  }
  choice.finished = true;
  const std::string fault = choice.text.fault();
  if (!fault.empty() && event.finish != engine::FinishReason::kLength) {
    spdlog::info("{}: the answer is not as its format has it: {}", id_, fault);
  }
  if (choice.text.ended()) {
    choice.finish_reason = "stop";
    if (choice.text.stop()) choice.stop_reason = choice.matched_stop = *choice.text.stop();
    if (!event.finish) engine_.Abort(choice.id);
    return Note(choice, choice.finish_reason, false);
  }
  const bool stopped = event.finish == engine::FinishReason::kStop;
  choice.finish_reason = stopped ? "stop" : "length";
  if (stopped && event.stop_token >= 0) {
    choice.matched_stop = event.stop_token;
    choice.stop_token.emplace(event.stop_token, event.stop_logprobs);
    const auto& eos = engine_.info().eos_token_ids;
    if (std::find(eos.begin(), eos.end(), event.stop_token) == eos.end())
      choice.stop_reason = event.stop_token;
  }
  Note(choice, choice.finish_reason, false);
}

void Generation::Note(Choice& choice, const std::string& reason, bool aborted) {
  choice.watch.Ended(NameOf(choice), reason, aborted, NowNs());
}

std::string Generation::NameOf(const Choice& choice) const {
  return choices_.size() == 1 ? id_ : fmt::format("{}[{}]", id_, choice.index);
}

void Generation::EndIfAllFinished() {
  for (const Choice& choice : choices_) {
    if (!choice.finished) return;
  }
  // Before the last byte: a client that has its answer may at once ask for the place that this one held.
  const auto self = shared_from_this();
  Leave();
  if (plan_.stream) {
    if (plan_.include_usage) {
      Json chunk = Chunk(Json::array());
      chunk["usage"] = Usage();
      exchange_->Write(SseEvent(chunk));
    }
    exchange_->Write(kSseDone);
    exchange_->EndStream();
  } else {
    HttpResponse response;
    response.headers = plan_.headers;
    response.body = ToText(WholeAnswer());
    exchange_->Respond(std::move(response));
  }
}

void Generation::End(const ApiError& error) {
  if (over_) return;
  AbortRest(error.what());
  if (plan_.watchers.metrics != nullptr) plan_.watchers.metrics->Refused(error.code());
  const auto self = shared_from_this();
  Leave();
  if (plan_.stream) {
    exchange_->Write(SseEvent(error.Body()));
    exchange_->Write(kSseDone);
    exchange_->EndStream();
  } else {
    exchange_->Respond(error.Response());
  }
}

void Generation::Leave() {
  over_ = true;
  list_.Remove(this);
}

void Generation::AbortRest(const std::string& reason) {
  for (Choice& choice : choices_) {
    if (!choice.submitted || choice.finished) continue;
    engine_.Abort(choice.id);
    Note(choice, reason, true);
  }
}

}  // namespace sluice::serve
