#pragma once

#include <exception>
#include <optional>
#include <stdexcept>
#include <string>

#include "serve/exchange.h"
#include "serve/json.h"

namespace sluice::serve {

// Every way in which a request can be refused or ended. One row each in errors.cc: status, type, code and
// headers; docs/api.md has the same table.
enum class Refusal {
  kInvalidJson,
  kInvalidType,
  kMissingParameter,
  kOutOfRange,
  kInvalidValue,
  kContextLength,
  kUnsupportedParameter,
  kBadHttp,
  kModelNotFound,
  kUnknownUrl,
  kMethodNotAllowed,
  kRequestTimeout,
  kRequestTooLarge,
  kUnsupportedMediaType,
  kHeadersTooLarge,
  kQueueFull,
  kDraining,
  kRankLost,
  kStalled,
  kInternal,
};

// A refusal with its sentence. `param` names the field as the client wrote it: "messages[2].role".
class ApiError : public std::runtime_error {
 public:
  ApiError(Refusal refusal, const std::string& sentence, std::optional<std::string> param = std::nullopt)
      : std::runtime_error(sentence), refusal_(refusal), param_(std::move(param)) {}

  Refusal refusal() const { return refusal_; }
  int status() const;
  const char* code() const;
  // {"error": {"message", "type", "param", "code"}}
  Json Body() const;
  HttpResponse Response() const;

 private:
  Refusal refusal_;
  std::optional<std::string> param_;
};

// What the client is told about an exception from below: Error(kBadRequest) and Error(kRankLost) keep their
// sentence; everything else is our bug, which is logged under an incident id and answered with that id alone.
ApiError ToApiError(const std::exception& exception);

// `text` shortened to 64 characters, to be quoted in a sentence.
std::string Quoted(std::string_view text);

}  // namespace sluice::serve
