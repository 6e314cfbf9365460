#include "serve/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "serve/ids.h"
#include "serve/sse.h"

namespace sluice::serve {

void Delta::Append(Delta&& more) {
  text.reasoning += more.text.reasoning;
  text.content += more.text.content;
  tokens.insert(tokens.end(), more.tokens.begin(), more.tokens.end());
  logprobs.insert(logprobs.end(), std::make_move_iterator(more.logprobs.begin()),
                  std::make_move_iterator(more.logprobs.end()));
}

void GenerationList::Add(std::shared_ptr<Generation> generation, int64_t prompts, int64_t max_prompts) {
  const std::lock_guard lock(mutex_);
  if (closed_) throw ApiError(*closed_);
  if (prompts_ + prompts > max_prompts) {
    throw ApiError(
        Refusal::kQueueFull,
        fmt::format("{} prompts are under way and this request has {} more; the server takes {} at once",
                    prompts_, prompts, max_prompts));
  }
  prompts_ += prompts;
  const Generation* key = generation.get();
  entries_.emplace(key, Entry{std::move(generation), prompts});
}

void GenerationList::Remove(const Generation* generation) {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(generation);
  if (entry == entries_.end()) return;
  prompts_ -= entry->second.prompts;
  entries_.erase(entry);
}

void GenerationList::Close(const ApiError& error) {
  std::vector<std::shared_ptr<Generation>> all;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = error;
    for (const auto& [key, entry] : entries_) all.push_back(entry.generation);
  }
  for (const auto& generation : all) generation->Fail(error);
}

Generation::Generation(engine::Engine& engine, GenerationList& list, std::shared_ptr<Exchange> exchange,
                       std::unique_ptr<AnswerShape> shape, GenerationPlan plan, std::vector<Choice> choices)
    : engine_(engine),
      list_(list),
      exchange_(std::move(exchange)),
      shape_(std::move(shape)),
      plan_(std::move(plan)),
      choices_(std::move(choices)),
      id_(shape_->id_prefix() + RandomHex()),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()) {}

void Generation::Start() {
  list_.Add(shared_from_this(), static_cast<int64_t>(choices_.size()), plan_.max_prompts);
  const std::weak_ptr<Generation> weak = weak_from_this();
  try {
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      choices_[i].watch =
          RequestWatch(plan_.watchers, static_cast<int64_t>(choices_[i].request.prompt.size()));
      choices_[i].watch.Submitted(NowNs());
      choices_[i].watch.Received(NameOf(choices_[i]), choices_[i].request);
      // An engine thread calls the sink: it only hands the event over to the exchange's own order.
      choices_[i].id = engine_.Submit(choices_[i].request, [weak, i](engine::Event event) {
        const auto self = weak.lock();
        if (!self) return;
        self->exchange_->Post([weak, i, shared = std::make_shared<engine::Event>(std::move(event))] {
          if (const auto alive = weak.lock()) alive->OnEvent(i, std::move(*shared));
        });
      });
      choices_[i].submitted = true;
    }
  } catch (...) {
    over_ = true;
    AbortRest("refused");
    list_.Remove(this);
    throw;
  }
  exchange_->OnGone([weak] {
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
    exchange_->BeginStream(std::move(head), kSseKeepAlive);
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
    choice.watch.Prompt(event.prompt_tokens_done, event.cached_tokens);
    if (event.finish == engine::FinishReason::kError || event.finish == engine::FinishReason::kAbort) {
      const std::string verdict = engine_.Verdict();
      if (!verdict.empty()) return End(ApiError(Refusal::kRankLost, verdict));
      if (event.finish == engine::FinishReason::kError) return End(ApiError(Refusal::kInternal, event.error));
      return End(
          ApiError(Refusal::kDraining, "the server ended this request before its answer was complete"));
    }
    Delta delta = Take(choice, event);
    choice.watch.Said(delta.text.reasoning);
    choice.watch.Said(delta.text.content);
    if (event.finish || choice.text.stop()) FinishFrom(choice, event, delta);
    if (plan_.stream) {
      const bool begins = !event.tokens.empty() || !event.prompt_logprobs.empty() || choice.finished;
      if (begins) Stream(choice, delta);
    } else {
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
  for (std::size_t i = 0; i < event.tokens.size() && !choice.text.stop(); ++i) {
    ++choice.completion_tokens;
    if (choice.text.reasoning()) ++choice.reasoning_tokens;
    AnswerText::Piece piece = choice.text.Push(event.tokens[i]);
    delta.text.reasoning += piece.reasoning;
    delta.text.content += piece.content;
    delta.tokens.push_back(event.tokens[i]);
    if (plan_.logprobs) delta.logprobs.push_back(std::move(event.logprobs[i]));
  }
  return delta;
}

void Generation::FinishFrom(Choice& choice, const engine::Event& event, Delta& delta) {
  if (!choice.text.stop()) {
    AnswerText::Piece rest = choice.text.Finish();
    delta.text.reasoning += rest.reasoning;
    delta.text.content += rest.content;
    choice.watch.Said(rest.reasoning);
    choice.watch.Said(rest.content);
  }
  choice.finished = true;
  if (choice.text.stop()) {
    choice.finish_reason = "stop";
    choice.stop_reason = *choice.text.stop();
    if (!event.finish) engine_.Abort(choice.id);
    return Note(choice, choice.finish_reason, false);
  }
  const bool stopped = event.finish == engine::FinishReason::kStop;
  choice.finish_reason = stopped ? "stop" : "length";
  const auto& eos = engine_.info().eos_token_ids;
  if (stopped && std::find(eos.begin(), eos.end(), event.stop_token) == eos.end()) {
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

void Generation::Stream(Choice& choice, const Delta& delta) {
  if (!choice.opened) {
    choice.opened = true;
    Json opening = shape_->Opening(choice);
    if (!opening.is_null()) {
      Json chunk = Chunk(Json::array({std::move(opening)}));
      chunk.update(shape_->Envelope(choices_));
      exchange_->Write(SseEvent(chunk));
    }
  }
  const bool text = !delta.text.content.empty() || !delta.text.reasoning.empty();
  const bool tokens = !delta.tokens.empty() && (plan_.logprobs || plan_.return_token_ids);
  if (text || tokens) {
    exchange_->Write(SseEvent(Chunk(Json::array({shape_->Chunk(choice, delta)}))));
  }
  if (choice.finished) exchange_->Write(SseEvent(Chunk(Json::array({shape_->Closing(choice)}))));
}

void Generation::EndIfAllFinished() {
  for (const Choice& choice : choices_) {
    if (!choice.finished) return;
  }
  if (plan_.stream) {
    if (plan_.include_usage) {
      Json chunk = Chunk(Json::array());
      chunk["usage"] = Usage();
      exchange_->Write(SseEvent(chunk));
    }
    exchange_->Write(kSseDone);
    exchange_->EndStream();
  } else {
    Json all = Json::array();
    for (Choice& choice : choices_) all.push_back(shape_->Whole(choice));
    Json body = {{"id", id_},
                 {"object", shape_->object(false)},
                 {"created", created_},
                 {"model", plan_.model},
                 {"system_fingerprint", plan_.fingerprint},
                 {"choices", std::move(all)},
                 {"usage", Usage()}};
    body.update(shape_->Envelope(choices_));
    HttpResponse response;
    response.headers = plan_.headers;
    response.body = ToText(body);
    exchange_->Respond(std::move(response));
  }
  Leave();
}

void Generation::End(const ApiError& error) {
  if (over_) return;
  AbortRest(error.what());
  if (plan_.watchers.metrics != nullptr) plan_.watchers.metrics->Refused(error.code());
  if (plan_.stream) {
    exchange_->Write(SseEvent(error.Body()));
    exchange_->Write(kSseDone);
    exchange_->EndStream();
  } else {
    exchange_->Respond(error.Response());
  }
  Leave();
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

Json Generation::Chunk(Json choices) const {
  Json chunk = {{"id", id_},
                {"object", shape_->object(true)},
                {"created", created_},
                {"model", plan_.model},
                {"system_fingerprint", plan_.fingerprint},
                {"choices", std::move(choices)}};
  if (plan_.continuous_usage) {
    chunk["usage"] = Usage();
  } else if (plan_.include_usage) {
    chunk["usage"] = nullptr;
  }
  return chunk;
}

Json Generation::Usage() const {
  int64_t prompt = 0;
  int64_t completion = 0;
  int64_t reasoning = 0;
  for (const Choice& choice : choices_) {
    prompt += static_cast<int64_t>(choice.request.prompt.size());
    completion += choice.completion_tokens;
    reasoning += choice.reasoning_tokens;
  }
  return {{"prompt_tokens", prompt},
          {"completion_tokens", completion},
          {"total_tokens", prompt + completion},
          {"prompt_tokens_details", {{"cached_tokens", 0}}},
          {"completion_tokens_details", {{"reasoning_tokens", reasoning}}}};
}

}  // namespace sluice::serve
