#include <fmt/format.h>

#include "serve/errors.h"
#include "serve/json_response.h"
#include "serve/parse_request.h"
#include "serve/prepare.h"
#include "serve/service.h"
#include "serve/token_text.h"

namespace sluice::serve {
namespace {

// `model` may be left out of bodies that nothing is generated for.
void CheckModel(const Service& service, const std::string& model) {
  if (!model.empty()) OneModel(service, model);
}

std::vector<int32_t> ChatTokens(const Service& service, simdjson::dom::object body) {
  const ChatRequest request = ParseChat(body, service.engine.info().vocab_size, service.options.chat, false);
  CheckModel(service, request.model);
  return service.tokenizer.Encode(ChatPrompt(request));
}

}  // namespace

HttpResponse RenderedChat(Service& service, const HttpRequest& http) {
  const JsonBody body = ReadBody(http);
  const ChatRequest request =
      ParseChat(body.object(), service.engine.info().vocab_size, service.options.chat, false);
  CheckModel(service, request.model);
  const std::string prompt = ChatPrompt(request);
  const std::vector<int32_t> tokens = service.tokenizer.Encode(prompt);
  return JsonResponse({{"prompt", prompt}, {"token_ids", tokens}, {"count", tokens.size()}});
}

// The text is `prompt` as in vLLM or `content` as in llama-server; `messages` is a chat.
HttpResponse Tokenized(Service& service, const HttpRequest& http) {
  const JsonBody body = ReadBody(http);
  FieldReader fields(body.object());
  const auto prompt = fields.String("prompt");
  const auto content = fields.String("content");
  const bool chat = fields.Any("messages").has_value();
  const int given =
      static_cast<int>(prompt.has_value()) + static_cast<int>(content.has_value()) + static_cast<int>(chat);
  if (given == 0) fields.Missing("prompt", "a text, or a chat's messages");
  if (given > 1) {
    throw ApiError(Refusal::kInvalidValue,
                   "prompt, content and messages are different texts; send one of them",
                   chat ? "messages" : "content");
  }
  if (fields.Bool("add_special_tokens").value_or(false)) {
    fields.Unsupported("add_special_tokens",
                       "leave it out or send false; they may be written out in the text");
  }
  const bool pieces = fields.Bool("return_token_strs").value_or(false);
  const bool with_pieces = fields.Bool("with_pieces").value_or(false);  // llama-server's name
  std::vector<int32_t> tokens;
  if (chat) {
    tokens = ChatTokens(service, body.object());
  } else {
    CheckModel(service, fields.String("model").value_or(""));
    tokens = service.tokenizer.Encode(prompt ? *prompt : *content);
  }
  Json answer = {
      {"tokens", tokens}, {"count", tokens.size()}, {"max_model_len", service.engine.info().context_length}};
  if (pieces || with_pieces) {
    Json texts = Json::array();
    for (const int32_t token : tokens) texts.push_back(TokenText(service.tokenizer, token));
    answer["token_strs"] = std::move(texts);
  }
  return JsonResponse(answer);
}

// What evaluation harnesses ask before they use /tokenize in place of a tokenizer of their own.
HttpResponse TokenizerInfo(const Service& service) {
  const auto& ends = service.engine.info().eos_token_ids;
  Json eos = nullptr;
  if (!ends.empty()) eos = service.tokenizer.TokenBytes(ends.front());
  constexpr std::string_view kBegin = "<｜begin▁of▁sentence｜>";
  const Json bos = service.tokenizer.TokenId(kBegin) ? Json(kBegin) : Json(nullptr);
  return JsonResponse({{"tokenizer_class", "sluice"}, {"bos_token", bos}, {"eos_token", eos}});
}

HttpResponse Detokenized(Service& service, const HttpRequest& http) {
  const JsonBody body = ReadBody(http);
  FieldReader fields(body.object());
  CheckModel(service, fields.String("model").value_or(""));
  const auto list = fields.Array("tokens");
  if (!list) fields.Missing("tokens", "a list of token ids");
  const bool skip = fields.Bool("skip_special_tokens").value_or(false);
  const std::string text =
      service.tokenizer.Decode(ParseIds(*list, "tokens", service.engine.info().vocab_size), skip);
  return JsonResponse({{"prompt", text}, {"content", text}});
}

}  // namespace sluice::serve
