#include <fmt/format.h>

#include "base/error.h"
#include "serve/parse_request.h"
#include "serve/prepare.h"

namespace sluice::serve {
namespace {

constexpr int64_t kDefaultMaxTokens = 16;  // OpenAI's

class CompletionShape : public AnswerShape {
 public:
  CompletionShape(const text::Tokenizer& tokenizer, const CompletionRequest& request)
      : tokenizer_(tokenizer),
        top_(request.top_logprobs),
        echo_(request.echo),
        token_ids_(request.return_token_ids),
        skip_special_(request.skip_special_tokens) {}

  const char* id_prefix() const override { return "cmpl-"; }
  const char* object(bool) const override { return "text_completion"; }

  Json Opening(Choice& choice) const override {
    if (!echo_ && !token_ids_) return nullptr;
    Json opening = Member(choice, echo_ ? choice.prompt_text : "", echo_ ? PromptLogprobs(choice) : nullptr);
    if (token_ids_) {
      opening["prompt_token_ids"] = choice.request.prompt;
      opening["token_ids"] = Json::array();
    }
    return opening;
  }

  Json Chunk(Choice& choice, const Delta& delta) const override {
    Json member = Member(choice, delta.text.content, AnswerLogprobs(choice, delta));
    if (token_ids_) member["token_ids"] = delta.tokens;
    return member;
  }

  Json Closing(Choice& choice) const override {
    return Finished(choice, Member(choice, "", StopLogprobs(choice)));
  }

  Json Whole(Choice& choice) const override {
    std::string text = echo_ ? choice.prompt_text : "";
    text += choice.answer.text.content;
    Json logprobs = echo_ ? PromptLogprobs(choice) : nullptr;
    Join(logprobs, AnswerLogprobs(choice, choice.answer));
    Join(logprobs, StopLogprobs(choice));
    Json member = Finished(choice, Member(choice, text, std::move(logprobs)));
    if (token_ids_) {
      member["prompt_token_ids"] = choice.request.prompt;
      member["token_ids"] = choice.answer.tokens;
    }
    return member;
  }

  Json Envelope(const std::vector<Choice>&) const override { return Json::object(); }

 private:
  static Json Member(const Choice& choice, const std::string& text, Json logprobs) {
    return {{"index", choice.index},
            {"text", text},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", nullptr},
            {"stop_reason", nullptr}};
  }

  static Json Finished(const Choice& choice, Json member) {
    member["finish_reason"] = choice.finish_reason;
    member["stop_reason"] = choice.stop_reason;
    return member;
  }

  // Tokens with their text offsets; one entry of `logprobs` each. An entry `unknown` has null for both.
  Json Logprobs(Choice& choice, const std::vector<int32_t>& tokens,
                const std::vector<engine::TokenLogprobs>& logprobs, std::size_t unknown,
                bool skip_special) const {
    Json names = Json::array();
    Json values = Json::array();
    Json tops = Json::array();
    Json offsets = Json::array();
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const std::string name = TokenText(tokenizer_, tokens[i]);
      const bool shown = !skip_special || !tokenizer_.IsSpecial(tokens[i]);
      offsets.push_back(choice.offset.Next(shown ? tokenizer_.TokenBytes(tokens[i]) : std::string_view()));
      if (i < unknown) {
        values.push_back(nullptr);
        tops.push_back(nullptr);
      } else {
        Json top = Json::object();
        const std::size_t shown_top = std::min(logprobs[i].top.size(), static_cast<std::size_t>(*top_));
        for (std::size_t k = 0; k < shown_top; ++k) {
          const engine::LogprobEntry& entry = logprobs[i].top[k];
          top.emplace(TokenText(tokenizer_, entry.token), entry.logprob);
        }
        top.emplace(name, logprobs[i].logprob);  // the token itself is there even when it is not at the top
        values.push_back(logprobs[i].logprob);
        tops.push_back(std::move(top));
      }
      names.push_back(name);
    }
    return {{"tokens", std::move(names)},
            {"token_logprobs", std::move(values)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
  }

  Json AnswerLogprobs(Choice& choice, const Delta& delta) const {
    if (!top_) return nullptr;
    return Logprobs(choice, delta.tokens, delta.logprobs, 0, skip_special_);
  }

  static void Join(Json& logprobs, Json more) {
    if (logprobs.is_null()) {
      logprobs = std::move(more);
      return;
    }
    for (const auto& [name, list] : more.items()) {
      for (const Json& item : list) logprobs[name].push_back(item);
    }
  }

  // With echo the token that ended the answer is listed too: evaluation harnesses ask for one token and leave
  // out the last entry, whichever it is.
  Json StopLogprobs(Choice& choice) const {
    if (!top_ || !echo_ || !choice.stop_token) return nullptr;
    return Logprobs(choice, {choice.stop_token->first}, {choice.stop_token->second}, 0, true);
  }

  // The first token of a prompt has nothing before it.
  Json PromptLogprobs(Choice& choice) const {
    if (!top_) return nullptr;
    SLUICE_CHECK(choice.prompt_logprobs.size() == choice.request.prompt.size(),
                 "the engine sent no log-probabilities of the prompt");
    return Logprobs(choice, choice.request.prompt, choice.prompt_logprobs, 1, false);
  }

  const text::Tokenizer& tokenizer_;
  std::optional<int32_t> top_;
  bool echo_;
  bool token_ids_;
  bool skip_special_;
};

// The prompt as the client sent it, or as its tokens read where it was cut or sent as tokens.
std::string EchoOf(const text::Tokenizer& tokenizer, const Prompt& prompt, const Choice& choice) {
  if (prompt.text && choice.truncated_tokens == 0) return *prompt.text;
  return tokenizer.Decode(choice.request.prompt);
}

void AnswerCompletion(Service& service, const HttpRequest& http, CompletionRequest request,
                      const std::shared_ptr<Exchange>& exchange) {
  CheckAnswerCount(service, request.prompts.size(), request.n);
  std::vector<Choice> choices;
  for (std::size_t i = 0; i < request.prompts.size(); ++i) {
    Prompt& prompt = request.prompts[i];
    const std::string param = request.prompts.size() == 1 ? "prompt" : fmt::format("prompt[{}]", i);
    std::vector<int32_t> ids = prompt.text ? service.tokenizer.Encode(*prompt.text) : std::move(prompt.ids);
    std::vector<Choice> copies =
        MakeChoices(service, request, std::move(ids), param, kDefaultMaxTokens);
    for (Choice& choice : copies) {
      choice.index = static_cast<int64_t>(choices.size());
      choice.request.prompt_logprobs |= request.echo && request.top_logprobs;
      if (request.echo) choice.prompt_text = EchoOf(service.tokenizer, prompt, choice);
      choices.push_back(std::move(choice));
    }
  }
  CheckPromptLogprobs(service, choices);
  std::make_shared<Generation>(service.engine, service.generations, exchange,
                               std::make_unique<CompletionShape>(service.tokenizer, request),
                               PlanOf(service, http, request), std::move(choices))
      ->Start();
}

}  // namespace

void HandleCompletion(Service& service, const HttpRequest& http, const std::shared_ptr<Exchange>& exchange) {
  const JsonBody body = ReadBody(http);
  CompletionRequest request = ParseCompletion(body.object(), service.engine.info().vocab_size);
  CheckServed(service, request.model);
  service.grammars.With<CompletionRequest>(
      std::move(request), exchange, [&service, http = HeadOf(http), exchange](CompletionRequest ready) {
        AnswerCompletion(service, http, std::move(ready), exchange);
      });
}

}  // namespace sluice::serve
