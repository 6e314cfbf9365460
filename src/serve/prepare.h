#pragma once

#include <string>
#include <vector>

#include "serve/api_request.h"
#include "serve/json_body.h"
#include "serve/service.h"
#include "text/answer_parser.h"

namespace sluice::serve {

// What HandleChat and HandleCompletion have in common between the bytes and Generation::Start.

// The body of a POST. kUnsupportedMediaType unless it is plain JSON by its headers; then as JsonBody.
JsonBody ReadBody(const HttpRequest& request);

// The request without its body.
HttpRequest HeadOf(const HttpRequest& request);

// kRankLost when the engine has a verdict, kDraining when no more requests are taken.
void CheckRunning(const Service& service);
// The same, and kModelNotFound unless `model` is the one served.
void CheckServed(const Service& service, const std::string& model);

// The text that a chat is answered from. kInvalidValue naming the message that the encoding refuses.
std::string ChatPrompt(const ChatRequest& request);

// Everything a generation copies from the request.
GenerationPlan PlanOf(const Service& service, const HttpRequest& http, const ApiRequest& request);

// The `n` choices for one prompt: checks that prompt and answer fit. `param` names the prompt in errors;
// `default_max_tokens` counts when the request has none, cut to what the context leaves, -1: all of that.
// `format` is how answers are read. Choice k has the seed of the request plus k, and the index k.
std::vector<Choice> MakeChoices(const Service& service, const ApiRequest& request,
                                std::vector<int32_t> prompt, const std::string& param,
                                int64_t default_max_tokens, const text::AnswerFormat& format = {});

// Refuses more answers than the server ever takes at once: to try again would not help. Before the choices
// are made, each of which has its prompt.
void CheckAnswerCount(const Service& service, std::size_t prompts, int64_t n);

// kOutOfRange when log-probabilities are asked of more prompt tokens than ServerOptions allows.
void CheckPromptLogprobs(const Service& service, const std::vector<Choice>& choices);

}  // namespace sluice::serve
