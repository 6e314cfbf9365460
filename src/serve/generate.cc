#include <fmt/format.h>

#include "base/clock.h"
#include "serve/parse_request.h"
#include "serve/prepare.h"

namespace sluice::serve {
namespace {

// SGLang's native answer: {"text", "output_ids", "meta_info"}, in a batch with "index". A stream's events
// have the text so far, unless `segments`: clients of that server cut by length.
class GenerateShape : public AnswerShape {
 public:
  GenerateShape(const text::Tokenizer& tokenizer, GenerateRequest request, std::string id)
      : tokenizer_(tokenizer), request_(std::move(request)), id_(std::move(id)) {}

  const char* id_prefix() const override { return ""; }
  const char* object(bool) const override { return ""; }
  Json Opening(Choice&) const override { return nullptr; }
  Json Chunk(Choice&, const Delta&) const override { return nullptr; }
  Json Closing(Choice&) const override { return nullptr; }
  Json Whole(Choice&) const override { return nullptr; }
  Json Envelope(const std::vector<Choice>&) const override { return nullptr; }

  Json Bare(const Choice& choice, const Delta& delta) const override {
    const Delta& shown = request_.segments ? delta : choice.answer;
    Json body = {
        {"text", shown.text.content}, {"output_ids", shown.tokens}, {"meta_info", MetaInfo(choice, shown)}};
    if (request_.batch) body["index"] = choice.index;
    return body;
  }

 private:
  Json MetaInfo(const Choice& choice, const Delta& shown) const {
    const RequestRecord& record = choice.watch.record();
    Json info = {{"id", request_.batch ? fmt::format("{}_{}", id_, choice.index) : id_},
                 {"finish_reason", FinishReason(choice)},
                 {"prompt_tokens", choice.request.prompt.size()},
                 {"completion_tokens", choice.completion_tokens},
                 {"cached_tokens", choice.cached_tokens}};
    if (request_.top_logprobs) AddLogprobs(choice, shown, info);
    if (choice.finished) {
      const int64_t end = record.ended_ns > 0 ? record.ended_ns : NowNs();
      info["e2e_latency"] = static_cast<double>(end - record.submitted_ns) * 1e-9;
    }
    return info;
  }

  static Json FinishReason(const Choice& choice) {
    if (!choice.finished) return nullptr;
    if (choice.finish_reason == "length") return {{"type", "length"}, {"length", choice.request.max_tokens}};
    return {{"type", choice.finish_reason}, {"matched", choice.matched_stop}};
  }

  Json Entry(Json logprob, int32_t token) const {
    Json text = nullptr;
    if (request_.logprob_texts) text = TokenText(tokenizer_, token);
    return Json::array({std::move(logprob), token, std::move(text)});
  }

  Json TopEntries(const std::vector<engine::LogprobEntry>& top) const {
    Json entries = Json::array();
    for (std::size_t k = 0; k < std::min(top.size(), static_cast<std::size_t>(*request_.top_logprobs)); ++k) {
      entries.push_back(Entry(top[k].logprob, top[k].token));
    }
    return entries;
  }

  void AddLogprobs(const Choice& choice, const Delta& shown, Json& info) const {
    Json input = Json::array();
    Json input_top = Json::array();
    const std::vector<int32_t>& prompt = choice.request.prompt;
    if (request_.logprob_start && choice.prompt_logprobs.size() == prompt.size()) {
      for (auto i = static_cast<std::size_t>(*request_.logprob_start); i < prompt.size(); ++i) {
        const engine::TokenLogprobs& here = choice.prompt_logprobs[i];
        input.push_back(Entry(i == 0 ? Json(nullptr) : Json(here.logprob), prompt[i]));
        input_top.push_back(i == 0 ? Json(nullptr) : TopEntries(here.top));
      }
    }
    Json output = Json::array();
    Json output_top = Json::array();
    for (std::size_t i = 0; i < shown.tokens.size(); ++i) {
      output.push_back(Entry(shown.logprobs[i].logprob, shown.tokens[i]));
      output_top.push_back(TopEntries(shown.logprobs[i].top));
    }
    info["input_token_logprobs"] = std::move(input);
    info["output_token_logprobs"] = std::move(output);
    if (*request_.top_logprobs == 0) return;
    info["input_top_logprobs"] = std::move(input_top);
    info["output_top_logprobs"] = std::move(output_top);
  }

  const text::Tokenizer& tokenizer_;
  const GenerateRequest request_;
  const std::string id_;
};

void AnswerGenerate(Service& service, const HttpRequest& http, GenerateRequest request,
                    const std::shared_ptr<Exchange>& exchange) {
  CheckAnswerCount(service, request.prompts.size(), request.n);
  std::vector<Choice> choices;
  for (std::size_t i = 0; i < request.prompts.size(); ++i) {
    Prompt& prompt = request.prompts[i];
    const std::string name = prompt.text ? "text" : "input_ids";
    const std::string param = request.prompts.size() == 1 ? name : fmt::format("{}[{}]", name, i);
    std::vector<int32_t> ids = prompt.text ? service.tokenizer.Encode(*prompt.text) : std::move(prompt.ids);
    for (Choice& choice :
         MakeChoices(service, request, std::move(ids), param, *request.max_tokens)) {
      choice.index = static_cast<int64_t>(choices.size());
      choices.push_back(std::move(choice));
    }
  }
  CheckPromptLogprobs(service, choices);
  GenerationPlan plan = PlanOf(service, http, request);
  plan.prompt_logprobs.reset();  // meta_info has them
  plan.bare = true;
  plan.batch = request.batch;
  const std::string id = plan.request_id;
  request.prompts.clear();
  std::make_shared<Generation>(service.engine, service.generations, exchange,
                               std::make_unique<GenerateShape>(service.tokenizer, std::move(request), id),
                               std::move(plan), std::move(choices))
      ->Start();
}

}  // namespace

void HandleGenerate(Service& service, const HttpRequest& http, const std::shared_ptr<Exchange>& exchange) {
  const JsonBody body = ReadBody(http);
  GenerateRequest request = ParseGenerate(body.object(), service.engine.info().vocab_size);
  CheckRunning(service);
  service.grammars.With<GenerateRequest>(std::move(request), exchange,
                                         [&service, http = HeadOf(http), exchange](GenerateRequest ready) {
                                           AnswerGenerate(service, http, std::move(ready), exchange);
                                         });
}

}  // namespace sluice::serve
