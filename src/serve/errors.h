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
  kLoading,
  kDeadlineUnreachable,
  kDeadlineExceeded,
  kInvalidApiKey,
  kForbidden,
  kCacheInUse,
  kAborted,
  kNoToken,
  kInternal,
};

// Which routes a refusal can come from.
enum class ErrorScope {
  kEveryRoute,
  kBodies,       // routes that read a body
  kModels,       // routes that name a model, or are there only sometimes
  kGenerations,  // routes that compute
  kControl,      // routes that need more than a user's key
};

// What the client sees of a refusal, beside its headers.
struct ErrorRow {
  Refusal refusal;
  ErrorScope scope;
  int status;
  const char* type;
  const char* code;
};
std::vector<ErrorRow> ErrorTable();

// A refusal with its sentence. `param` names the field as the client wrote it: "messages[2].role".
class ApiError : public std::runtime_error {
 public:
  ApiError(Refusal refusal, const std::string& sentence, std::optional<std::string> param = std::nullopt)
      : std::runtime_error(sentence), refusal_(refusal), param_(std::move(param)) {}

  Refusal refusal() const { return refusal_; }
  // Adds a header to the answer, in place of the table's header of that name.
  ApiError& With(const std::string& header, const std::string& value);
  // How long the client would have to wait: Retry-After up to a minute, which is as long as client libraries
  // listen to it; beyond that x-should-retry: false. The body says the seconds.
  ApiError& RetryAfter(double seconds);

  int status() const;
  const char* code() const;
  // {"error": {"message", "type", "param", "code"}}
  Json Body() const;
  HttpResponse Response() const;

 private:
  Refusal refusal_;
  std::optional<std::string> param_;
  HeaderList headers_;
  std::optional<double> wait_seconds_;
};

// What the client is told about an exception from below: Error(kBadRequest) and Error(kRankLost) keep their
// sentence; everything else is our bug, which is logged under an incident id and answered with that id alone.
ApiError ToApiError(const std::exception& exception);

// `text` shortened to 64 characters, to be quoted in a sentence.
std::string Quoted(std::string_view text);

}  // namespace sluice::serve
