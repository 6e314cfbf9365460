#include <utility>

#include "base/clock.h"
#include "serve/generation.h"
#include "serve/prompt_logprobs.h"
#include "serve/sse.h"
#include "serve/timings.h"

// What a client is sent of its answers: the chunks of a stream, a whole answer, and the envelope of both.
namespace sluice::serve {

void Generation::Open(Choice& choice) {
  if (choice.opened) return;
  choice.opened = true;
  Json opening = shape_->Opening(choice);
  if (plan_.prompt_logprobs) {
    if (opening.is_null()) opening = shape_->Chunk(choice, {});
    opening["prompt_logprobs"] = PromptLogprobs(choice);
  }
  if (opening.is_null()) return;
  Json chunk = Chunk(Json::array({std::move(opening)}));
  chunk.update(shape_->Envelope(choices_));
  exchange_->Write(SseEvent(chunk));
}

void Generation::Stream(Choice& choice, const Delta& delta) {
  if (plan_.bare) return exchange_->Write(SseEvent(shape_->Bare(choice, delta)));
  Open(choice);
  const bool text = !delta.text.content.empty() || !delta.text.reasoning.empty();
  std::vector<Json> calls = shape_->Calls(choice, delta);
  const bool tokens = !delta.tokens.empty() && (plan_.logprobs || plan_.return_token_ids);
  if (text || tokens) {
    Json chunk = Chunk(Json::array({shape_->Chunk(choice, delta)}));
    if (plan_.timings_each)
      chunk["timings"] = TimingsOf(choice.watch.record(), choice.cached_tokens, NowNs());
    exchange_->Write(SseEvent(chunk));
  }
  for (Json& member : calls) exchange_->Write(SseEvent(Chunk(Json::array({std::move(member)}))));
  if (!choice.finished) return;
  Json chunk = Chunk(Json::array({Finished(choice, shape_->Closing(choice))}));
  if (plan_.timings) chunk["timings"] = TimingsOf(choice.watch.record(), choice.cached_tokens, NowNs());
  exchange_->Write(SseEvent(chunk));
}

// One choice with an empty delta: much client code looks at choices[0] unasked. A chat has its role before
// that, since clients take the first chunk for the one that has it.
void Generation::StreamProgress(Choice& choice) {
  if (plan_.chat && !plan_.prompt_logprobs) Open(choice);
  Json member = shape_->Chunk(choice, {});
  member["logprobs"] = nullptr;
  Json chunk = Chunk(Json::array({std::move(member)}));
  const int64_t since = choice.watch.record().submitted_ns;
  chunk["prompt_progress"] = {{"total", choice.request.prompt.size()},
                              {"cache", choice.cached_tokens},
                              {"processed", choice.prompt_done},
                              {"time_ms", (NowNs() - since) / 1'000'000}};
  exchange_->Write(SseEvent(chunk));
}

Json Generation::Finished(Choice& choice, Json member) const {
  member["matched_stop"] = choice.matched_stop;
  return member;
}

Json Generation::WholeAnswer() {
  if (plan_.bare) {
    Json list = Json::array();
    for (const Choice& choice : choices_) list.push_back(shape_->Bare(choice, choice.answer));
    return plan_.batch ? list : list.front();
  }
  Json all = Json::array();
  for (Choice& choice : choices_) {
    Json member = Finished(choice, shape_->Whole(choice));
    if (plan_.prompt_logprobs && !plan_.chat) member["prompt_logprobs"] = PromptLogprobs(choice);
    all.push_back(std::move(member));
  }
  Json body = {{"id", id_},
               {"object", shape_->object(false)},
               {"created", created_},
               {"model", plan_.model},
               {"system_fingerprint", plan_.fingerprint},
               {"choices", std::move(all)},
               {"usage", Usage()}};
  body.update(shape_->Envelope(choices_));
  if (plan_.prompt_logprobs && plan_.chat) body["prompt_logprobs"] = PromptLogprobs(choices_.front());
  if (plan_.timings) body["timings"] = Timings();
  return body;
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

Json Generation::PromptLogprobs(const Choice& choice) const {
  return PromptLogprobsOf(*plan_.tokenizer, choice.request.prompt, choice.prompt_logprobs,
                          *plan_.prompt_logprobs);
}

// Of every answer; of the only one without a list around it, as llama-server has it.
Json Generation::Timings() const {
  Json all = Json::array();
  for (const Choice& choice : choices_) {
    all.push_back(TimingsOf(choice.watch.record(), choice.cached_tokens, NowNs()));
  }
  return all.size() == 1 ? all.front() : all;
}

// A prompt counts once, however many answers it has.
Json Generation::Usage() const {
  int64_t prompt = 0;
  int64_t cached = 0;
  int64_t truncated = 0;
  int64_t completion = 0;
  int64_t reasoning = 0;
  for (const Choice& choice : choices_) {
    completion += choice.completion_tokens;
    reasoning += choice.reasoning_tokens;
    if (choice.copy > 0) continue;
    prompt += static_cast<int64_t>(choice.request.prompt.size());
    cached += choice.cached_tokens;
    truncated += choice.truncated_tokens;
  }
  Json usage = {{"prompt_tokens", prompt},
                {"completion_tokens", completion},
                {"total_tokens", prompt + completion},
                {"prompt_tokens_details", {{"cached_tokens", cached}}},
                {"completion_tokens_details", {{"reasoning_tokens", reasoning}}}};
  if (plan_.report_truncation) usage["prompt_tokens_details"]["truncated_tokens"] = truncated;
  return usage;
}

}  // namespace sluice::serve
