#include <fmt/format.h>

#include <span>

#include "base/error.h"
#include "serve/ids.h"
#include "serve/parse_request.h"
#include "serve/prepare.h"
#include "text/chat_deepseek_v32.h"
#include "text/chat_glm5.h"
#include "text/deepseek_v32_texts.h"
#include "text/glm47_grammar.h"

namespace sluice::serve {
namespace {

class ChatShape : public AnswerShape {
 public:
  ChatShape(const text::Tokenizer& tokenizer, const ChatRequest& request)
      : tokenizer_(tokenizer),
        logprobs_(request.top_logprobs.has_value()),
        token_ids_(request.return_token_ids),
        reasoning_(request.thinking && request.separate_reasoning && request.include_reasoning),
        named_(request.tool_choice == ToolChoice::kNamed) {}

  const char* id_prefix() const override { return "chatcmpl-"; }
  const char* object(bool stream) const override {
    return stream ? "chat.completion.chunk" : "chat.completion";
  }

  Json Opening(Choice& choice) const override {
    return Member(choice, {{"role", "assistant"}, {"content", ""}}, nullptr);
  }

  Json Chunk(Choice& choice, const Delta& delta) const override {
    Json text = Json::object();
    if (reasoning_ && !delta.text.reasoning.empty()) text["reasoning_content"] = delta.text.reasoning;
    if (!delta.text.content.empty()) text["content"] = delta.text.content;
    Json member = Member(choice, std::move(text), Logprobs(delta));
    if (token_ids_) member["token_ids"] = delta.tokens;
    return member;
  }

  // The name of a call comes first, with empty arguments; they follow.
  std::vector<Json> Calls(Choice& choice, const Delta& delta) const override {
    std::vector<Json> members;
    for (const text::ToolCall& call : delta.text.calls) {
      Json begin = CallOf(call.name, "");
      begin["index"] = choice.calls;
      const Json rest = {{"index", choice.calls}, {"function", {{"arguments", call.arguments}}}};
      members.push_back(Member(choice, {{"tool_calls", Json::array({std::move(begin)})}}, nullptr));
      members.push_back(Member(choice, {{"tool_calls", Json::array({rest})}}, nullptr));
      ++choice.calls;
    }
    return members;
  }

  Json Closing(Choice& choice) const override {
    Json member = Member(choice, Json::object(), nullptr);
    member["finish_reason"] = FinishReason(choice, choice.calls > 0);
    member["stop_reason"] = choice.stop_reason;
    return member;
  }

  Json Whole(Choice& choice) const override {
    Json message = {{"role", "assistant"}, {"content", choice.answer.text.content}, {"refusal", nullptr}};
    if (reasoning_) message["reasoning_content"] = choice.answer.text.reasoning;
    const bool called = !choice.answer.text.calls.empty();
    if (called) {
      if (choice.answer.text.content.empty()) message["content"] = nullptr;
      Json calls = Json::array();
      for (const text::ToolCall& call : choice.answer.text.calls) {
        calls.push_back(CallOf(call.name, call.arguments));
      }
      message["tool_calls"] = std::move(calls);
    }
    Json member = {{"index", choice.index},
                   {"message", std::move(message)},
                   {"logprobs", Logprobs(choice.answer)},
                   {"finish_reason", FinishReason(choice, called)},
                   {"stop_reason", choice.stop_reason}};
    if (token_ids_) member["token_ids"] = choice.answer.tokens;
    return member;
  }

  Json Envelope(const std::vector<Choice>& choices) const override {
    if (!token_ids_) return Json::object();
    return {{"prompt_token_ids", choices.front().request.prompt}};
  }

 private:
  // As OpenAI has it: a call that was demanded by its name ends the answer with stop.
  std::string FinishReason(const Choice& choice, bool called) const {
    return called && !named_ && choice.finish_reason == "stop" ? "tool_calls" : choice.finish_reason;
  }

  static Json CallOf(const std::string& name, const std::string& arguments) {
    return {{"id", "call_" + RandomHex()},
            {"type", "function"},
            {"function", {{"name", name}, {"arguments", arguments}}}};
  }

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
  bool reasoning_;  // is shown
  bool named_;
};

bool CallIsDemanded(const ChatRequest& request) {
  return request.tool_choice == ToolChoice::kRequired || request.tool_choice == ToolChoice::kNamed;
}

// Where the model is to call a tool, and no grammar makes it: the beginning of the call, which the prompt
// ends with. With one tool its name is part of it.
std::string DemandedCall(const ChatRequest& request) {
  if (!CallIsDemanded(request) || request.dialect.calls == text::CallMarkup::kGlm47) return "";
  std::string begin = fmt::format("\n\n{}\n{} name=\"", text::kCallsOpen, text::kInvokeOpen);
  if (request.tool_names.size() == 1) begin += request.tool_names.front() + "\">\n";
  return begin;
}

// The messages of a request to GLM: the one that stands in front for the tools alone is none of them.
std::span<const text::ChatMessage> GlmMessages(const ChatRequest& request) {
  return std::span(request.messages).subspan(request.first_message < 0 ? 1 : 0);
}

text::Glm5ChatOptions GlmOptions(const ChatRequest& request) {
  return {.style = request.dialect.style,
          .enable_thinking = request.thinking,
          .clear_thinking = request.clear_thinking,
          .high_effort = request.high_effort,
          .add_generation_prompt = request.add_generation_prompt,
          .continue_final_message = request.continue_final_message};
}

// Whether the prompt ends inside reasoning, which the answer goes on with.
bool BeginsInReasoning(const ChatRequest& request) {
  if (text::IsGlm(request.dialect.style)) {
    return text::Glm5EndsInReasoning(GlmMessages(request), GlmOptions(request));
  }
  if (!request.thinking || !request.add_generation_prompt) return false;
  const text::ChatMessage& last = request.messages.back();
  return request.continue_final_message ? last.content.empty() : last.role != "assistant";
}

text::AnswerFormat FormatOf(const Service& service, const ChatRequest& request) {
  text::AnswerFormat format;
  format.begins_in_reasoning =
      service.options.parse_reasoning && request.separate_reasoning && BeginsInReasoning(request);
  format.tool_calls = request.tool_choice != ToolChoice::kNone;
  format.tool_names = request.tool_names;
  format.one_call = request.one_call;
  format.written = DemandedCall(request);
  format.markup = request.dialect.calls;
  if (format.tool_calls && format.markup == text::CallMarkup::kGlm47) {
    format.functions = request.messages.front().tools;
  }
  return format;
}

}  // namespace

namespace {

std::string EncodeChat(const ChatRequest& request) {
  if (text::IsGlm(request.dialect.style)) {
    return text::EncodeGlm5Chat(request.messages.front().tools, GlmMessages(request), GlmOptions(request));
  }
  text::DeepSeekV32ChatOptions encoding;
  if (request.thinking) encoding.mode = text::DeepSeekV32ChatOptions::Mode::kThinking;
  encoding.continue_final_message = request.continue_final_message;
  encoding.add_generation_prompt = request.add_generation_prompt;
  encoding.first_index = request.first_message;
  return text::EncodeDeepSeekV32Chat(request.messages, encoding);
}

}  // namespace

std::string ChatPrompt(const ChatRequest& request) {
  try {
    return EncodeChat(request) + DemandedCall(request);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kBadRequest) throw;
    throw ApiError(Refusal::kInvalidValue, error.what(), "messages");
  }
}

namespace {

void AnswerChat(Service& service, const HttpRequest& http, const ChatRequest& request,
                const std::shared_ptr<Exchange>& exchange) {
  CheckAnswerCount(service, 1, request.n);
  const std::string prompt = ChatPrompt(request);
  std::vector<Choice> choices = MakeChoices(service, request, service.tokenizer.Encode(prompt), "messages",
                                            -1, FormatOf(service, request));
  if (BeginsInReasoning(request)) {
    const int32_t end_of_thinking = service.tokenizer.TokenId("</think>").value_or(-1);
    for (Choice& choice : choices) choice.request.grammar_after = end_of_thinking;
  }
  CheckPromptLogprobs(service, choices);
  std::make_shared<Generation>(service.engine, service.generations, exchange,
                               std::make_unique<ChatShape>(service.tokenizer, request),
                               PlanOf(service, http, request), std::move(choices))
      ->Start();
}

}  // namespace

void HandleChat(Service& service, const HttpRequest& http, const std::shared_ptr<Exchange>& exchange) {
  const JsonBody body = ReadBody(http);
  ChatRequest request = ParseChat(body.object(), service.engine.info().vocab_size, service.options.chat);
  CheckServed(service, request.model);
  if (request.tool_choice != ToolChoice::kNone && !service.options.parse_tool_calls) {
    throw ApiError(
        Refusal::kUnsupportedParameter,
        "tools are not offered to the model, since this server was started with --tool-call-parser "
        "none; leave them out",
        "tools");
  }
  if (request.tool_choice != ToolChoice::kNone && request.constraint.kind != AnswerConstraint::Kind::kText) {
    throw ApiError(Refusal::kUnsupportedParameter,
                   fmt::format("{} leaves no room for calls of tools; send tool_choice: \"none\" with it, or "
                               "leave one of them out",
                               request.constraint.param),
                   request.constraint.param);
  }
  if (CallIsDemanded(request) && request.dialect.calls == text::CallMarkup::kGlm47) {
    request.constraint = {
        AnswerConstraint::Kind::kCalls,
        text::Glm47CallRules(request.messages.front().tools, request.tool_names, request.one_call),
        "tool_choice"};
  }
  service.grammars.With<ChatRequest>(std::move(request), exchange,
                                     [&service, http = HeadOf(http), exchange](const ChatRequest& ready) {
                                       AnswerChat(service, http, ready, exchange);
                                     });
}

}  // namespace sluice::serve
