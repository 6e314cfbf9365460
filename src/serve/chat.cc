#include "base/error.h"
#include "serve/parse_request.h"
#include "serve/prepare.h"
#include "text/chat_deepseek_v32.h"

namespace sluice::serve {
namespace {

class ChatShape : public AnswerShape {
 public:
  ChatShape(const text::Tokenizer& tokenizer, const ChatRequest& request)
      : tokenizer_(tokenizer),
        logprobs_(request.top_logprobs.has_value()),
        token_ids_(request.return_token_ids),
        thinking_(request.thinking) {}

  const char* id_prefix() const override { return "chatcmpl-"; }
  const char* object(bool stream) const override {
    return stream ? "chat.completion.chunk" : "chat.completion";
  }

  Json Opening(Choice& choice) const override {
    return Member(choice, {{"role", "assistant"}, {"content", ""}}, nullptr);
  }

  Json Chunk(Choice& choice, const Delta& delta) const override {
    Json text = Json::object();
    if (!delta.text.reasoning.empty()) text["reasoning_content"] = delta.text.reasoning;
    if (!delta.text.content.empty()) text["content"] = delta.text.content;
    Json member = Member(choice, std::move(text), Logprobs(delta));
    if (token_ids_) member["token_ids"] = delta.tokens;
    return member;
  }

  Json Closing(Choice& choice) const override {
    Json member = Member(choice, Json::object(), nullptr);
    member["finish_reason"] = choice.finish_reason;
    member["stop_reason"] = choice.stop_reason;
    return member;
  }

  Json Whole(Choice& choice) const override {
    Json message = {{"role", "assistant"}, {"content", choice.answer.text.content}, {"refusal", nullptr}};
    if (thinking_) message["reasoning_content"] = choice.answer.text.reasoning;
    Json member = {{"index", choice.index},
                   {"message", std::move(message)},
                   {"logprobs", Logprobs(choice.answer)},
                   {"finish_reason", choice.finish_reason},
                   {"stop_reason", choice.stop_reason}};
    if (token_ids_) member["token_ids"] = choice.answer.tokens;
    return member;
  }

  Json Envelope(const std::vector<Choice>& choices) const override {
    if (!token_ids_) return Json::object();
    return {{"prompt_token_ids", choices.front().request.prompt}};
  }

 private:
  static Json Member(const Choice& choice, Json delta, Json logprobs) {
    return {{"index", choice.index},
            {"delta", std::move(delta)},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", nullptr},
            {"stop_reason", nullptr}};
  }

  Json Entry(int32_t token, float logprob) const {
    return {{"token", TokenText(tokenizer_, token)},
            {"logprob", logprob},
            {"bytes", TokenByteList(tokenizer_, token)}};
  }

  Json Logprobs(const Delta& delta) const {
    if (!logprobs_) return nullptr;
    Json content = Json::array();
    for (std::size_t i = 0; i < delta.tokens.size(); ++i) {
      Json entry = Entry(delta.tokens[i], delta.logprobs[i].logprob);
      Json top = Json::array();
      for (const engine::LogprobEntry& other : delta.logprobs[i].top)
        top.push_back(Entry(other.token, other.logprob));
      entry["top_logprobs"] = std::move(top);
      content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }

  const text::Tokenizer& tokenizer_;
  bool logprobs_;
  bool token_ids_;
  bool thinking_;
};

}  // namespace

std::string ChatPrompt(const ChatRequest& request) {
  text::DeepSeekV32ChatOptions encoding;
  if (request.thinking) encoding.mode = text::DeepSeekV32ChatOptions::Mode::kThinking;
  try {
    return text::EncodeDeepSeekV32Chat(request.messages, encoding);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kBadRequest) throw;
    throw ApiError(Refusal::kInvalidValue, error.what(), "messages");
  }
}

void HandleChat(Service& service, const HttpRequest& http, const std::shared_ptr<Exchange>& exchange) {
  const JsonBody body = ReadBody(http);
  const ChatRequest request = ParseChat(body.object(), service.engine.info().vocab_size);
  CheckServed(service, request.model);
  const std::string prompt = ChatPrompt(request);
  const auto end_of_thinking = request.thinking ? service.tokenizer.TokenId("</think>") : std::nullopt;
  std::vector<Choice> choices =
      MakeChoices(service, request, service.tokenizer.Encode(prompt), "messages", -1, end_of_thinking);
  CheckPromptLogprobs(service, choices);
  std::make_shared<Generation>(service.engine, service.generations, exchange,
                               std::make_unique<ChatShape>(service.tokenizer, request),
                               PlanOf(service, http, request), std::move(choices))
      ->Start();
}

}  // namespace sluice::serve
