#include "serve/errors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "engine/engine.h"
#include "serve/ids.h"

namespace sluice::serve {
namespace {

struct Row : ErrorRow {
  const char* header;  // with `value`, or null
  const char* value;
};

constexpr const char* kInvalidRequest = "invalid_request_error";
constexpr const char* kUnavailable = "unavailable_error";
constexpr const char* kOverloaded = "overloaded_error";
constexpr auto kEvery = ErrorScope::kEveryRoute;
constexpr auto kBodies = ErrorScope::kBodies;
constexpr auto kModels = ErrorScope::kModels;
constexpr auto kGenerations = ErrorScope::kGenerations;
constexpr auto kControlOnly = ErrorScope::kControl;

constexpr std::array kRows{
    Row{{Refusal::kInvalidJson, kBodies, 400, kInvalidRequest, "invalid_json"}, nullptr, nullptr},
    Row{{Refusal::kInvalidType, kBodies, 400, kInvalidRequest, "invalid_type"}, nullptr, nullptr},
    Row{{Refusal::kMissingParameter, kBodies, 400, kInvalidRequest, "missing_required_parameter"},
        nullptr,
        nullptr},
    Row{{Refusal::kOutOfRange, kBodies, 400, kInvalidRequest, "out_of_range"}, nullptr, nullptr},
    Row{{Refusal::kInvalidValue, kBodies, 400, kInvalidRequest, "invalid_value"}, nullptr, nullptr},
    Row{{Refusal::kContextLength, kGenerations, 400, kInvalidRequest, "context_length_exceeded"},
        nullptr,
        nullptr},
    Row{{Refusal::kUnsupportedParameter, kBodies, 400, kInvalidRequest, "unsupported_parameter"},
        nullptr,
        nullptr},
    Row{{Refusal::kBadHttp, kEvery, 400, kInvalidRequest, "bad_http"}, nullptr, nullptr},
    Row{{Refusal::kModelNotFound, kModels, 404, kInvalidRequest, "model_not_found"}, nullptr, nullptr},
    Row{{Refusal::kUnknownUrl, kModels, 404, kInvalidRequest, "unknown_url"}, nullptr, nullptr},
    Row{{Refusal::kMethodNotAllowed, kEvery, 405, kInvalidRequest, "method_not_allowed"}, nullptr, nullptr},
    Row{{Refusal::kRequestTimeout, kEvery, 408, kInvalidRequest, "request_timeout"}, nullptr, nullptr},
    Row{{Refusal::kRequestTooLarge, kEvery, 413, kInvalidRequest, "request_too_large"}, nullptr, nullptr},
    Row{{Refusal::kUnsupportedMediaType, kBodies, 415, kInvalidRequest, "unsupported_media_type"},
        nullptr,
        nullptr},
    Row{{Refusal::kHeadersTooLarge, kEvery, 431, kInvalidRequest, "headers_too_large"}, nullptr, nullptr},
    Row{{Refusal::kQueueFull, kEvery, 503, kOverloaded, "queue_full"}, "Retry-After", "1"},
    Row{{Refusal::kDraining, kEvery, 503, kUnavailable, "draining"}, "Retry-After", "5"},
    Row{{Refusal::kRankLost, kEvery, 503, kUnavailable, "rank_lost"}, "Retry-After", "10"},
    Row{{Refusal::kStalled, kEvery, 503, kUnavailable, "stalled"}, "Retry-After", "5"},
    Row{{Refusal::kLoading, kEvery, 503, kUnavailable, "loading"}, "Retry-After", "5"},
    Row{{Refusal::kNoToken, kEvery, 503, kUnavailable, "no_token"}, "Retry-After", "5"},
    Row{{Refusal::kDeadlineUnreachable, kGenerations, 503, kOverloaded, "deadline_unreachable"},
        "x-should-retry",
        "false"},
    Row{{Refusal::kDeadlineExceeded, kGenerations, 504, "timeout_error", "deadline_exceeded"},
        "x-should-retry",
        "false"},
    Row{{Refusal::kInvalidApiKey, kEvery, 401, kInvalidRequest, "invalid_api_key"},
        "WWW-Authenticate",
        "Bearer"},
    Row{{Refusal::kForbidden, kControlOnly, 403, "permission_error", "forbidden"}, nullptr, nullptr},
    Row{{Refusal::kCacheInUse, kControlOnly, 400, kInvalidRequest, "cache_in_use"}, nullptr, nullptr},
    Row{{Refusal::kAborted, kGenerations, 409, kInvalidRequest, "aborted"}, "x-should-retry", "false"},
    Row{{Refusal::kInternal, kEvery, 500, "server_error", "internal"}, "x-should-retry", "false"},
};

const Row& RowOf(Refusal refusal) {
  for (const Row& row : kRows) {
    if (row.refusal == refusal) return row;
  }
  Fail(ErrorKind::kInternal, "a refusal without a row in errors.cc");
}

}  // namespace

std::vector<ErrorRow> ErrorTable() { return {kRows.begin(), kRows.end()}; }

ApiError& ApiError::With(const std::string& header, const std::string& value) {
  headers_.emplace_back(header, value);
  return *this;
}

ApiError& ApiError::RetryAfter(double seconds) {
  constexpr double kLongestWait = 60;
  wait_seconds_ = seconds;
  if (seconds > kLongestWait) return With("x-should-retry", "false");
  return With("Retry-After", fmt::format("{}", std::max(1, static_cast<int>(std::ceil(seconds)))));
}

int ApiError::status() const { return RowOf(refusal_).status; }

const char* ApiError::code() const { return RowOf(refusal_).code; }

Json ApiError::Body() const {
  const Row& row = RowOf(refusal_);
  Json param = nullptr;
  if (param_) param = *param_;
  Json error = {{"message", what()}, {"type", row.type}, {"param", param}, {"code", row.code}};
  if (wait_seconds_) error["predicted_wait_seconds"] = *wait_seconds_;
  return {{"error", std::move(error)}};
}

HttpResponse ApiError::Response() const {
  const Row& row = RowOf(refusal_);
  HttpResponse response;
  response.status = row.status;
  response.headers = headers_;
  if (row.header != nullptr && !wait_seconds_) response.headers.emplace_back(row.header, row.value);
  response.body = ToText(Body());
  return response;
}

namespace {

ApiError FullQueue(const engine::QueueFull& full) {
  ApiError error(Refusal::kQueueFull, full.what());
  if (full.retry_after_seconds() > 0) error.RetryAfter(full.retry_after_seconds());
  return error;
}

}  // namespace

ApiError ToApiError(const std::exception& exception) {
  if (const auto* api = dynamic_cast<const ApiError*>(&exception)) return *api;
  if (const auto* error = dynamic_cast<const Error*>(&exception)) {
    if (error->kind() == ErrorKind::kBadRequest) return ApiError(Refusal::kInvalidValue, error->what());
    if (const auto* full = dynamic_cast<const engine::QueueFull*>(error)) return FullQueue(*full);
    if (const auto* late = dynamic_cast<const engine::DeadlineUnreachable*>(error)) {
      return ApiError(Refusal::kDeadlineUnreachable, late->what()).RetryAfter(late->wait_seconds());
    }
    if (error->kind() == ErrorKind::kRankLost) return ApiError(Refusal::kRankLost, error->what());
  }
  const std::string incident = RandomHex();
  spdlog::error("incident {}: {}", incident, exception.what());
  return ApiError(
      Refusal::kInternal,
      "sluice failed on this request; the server's log has the reason under incident " + incident);
}

std::string Quoted(std::string_view text) {
  constexpr std::size_t kLongest = 64;
  if (text.size() <= kLongest) return std::string(text);
  std::size_t end = kLongest;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return std::string(text.substr(0, end)) + "...";
}

}  // namespace sluice::serve
