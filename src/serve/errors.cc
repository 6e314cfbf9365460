#include "serve/errors.h"

#include <array>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "serve/ids.h"

namespace sluice::serve {
namespace {

struct Row {
  Refusal refusal;
  int status;
  const char* type;
  const char* code;
  const char* header;  // with `value`, or null
  const char* value;
};

constexpr const char* kInvalidRequest = "invalid_request_error";
constexpr const char* kUnavailable = "unavailable_error";

constexpr std::array kRows{
    Row{Refusal::kInvalidJson, 400, kInvalidRequest, "invalid_json", nullptr, nullptr},
    Row{Refusal::kInvalidType, 400, kInvalidRequest, "invalid_type", nullptr, nullptr},
    Row{Refusal::kMissingParameter, 400, kInvalidRequest, "missing_required_parameter", nullptr, nullptr},
    Row{Refusal::kOutOfRange, 400, kInvalidRequest, "out_of_range", nullptr, nullptr},
    Row{Refusal::kInvalidValue, 400, kInvalidRequest, "invalid_value", nullptr, nullptr},
    Row{Refusal::kContextLength, 400, kInvalidRequest, "context_length_exceeded", nullptr, nullptr},
    Row{Refusal::kUnsupportedParameter, 400, kInvalidRequest, "unsupported_parameter", nullptr, nullptr},
    Row{Refusal::kBadHttp, 400, kInvalidRequest, "bad_http", nullptr, nullptr},
    Row{Refusal::kModelNotFound, 404, kInvalidRequest, "model_not_found", nullptr, nullptr},
    Row{Refusal::kUnknownUrl, 404, kInvalidRequest, "unknown_url", nullptr, nullptr},
    Row{Refusal::kMethodNotAllowed, 405, kInvalidRequest, "method_not_allowed", nullptr, nullptr},
    Row{Refusal::kRequestTimeout, 408, kInvalidRequest, "request_timeout", nullptr, nullptr},
    Row{Refusal::kRequestTooLarge, 413, kInvalidRequest, "request_too_large", nullptr, nullptr},
    Row{Refusal::kUnsupportedMediaType, 415, kInvalidRequest, "unsupported_media_type", nullptr, nullptr},
    Row{Refusal::kHeadersTooLarge, 431, kInvalidRequest, "headers_too_large", nullptr, nullptr},
    Row{Refusal::kQueueFull, 503, "overloaded_error", "queue_full", "Retry-After", "1"},
    Row{Refusal::kDraining, 503, kUnavailable, "draining", "Retry-After", "5"},
    Row{Refusal::kRankLost, 503, kUnavailable, "rank_lost", "Retry-After", "10"},
    Row{Refusal::kStalled, 503, kUnavailable, "stalled", "Retry-After", "5"},
    Row{Refusal::kInternal, 500, "server_error", "internal", "x-should-retry", "false"},
};

const Row& RowOf(Refusal refusal) {
  for (const Row& row : kRows) {
    if (row.refusal == refusal) return row;
  }
  Fail(ErrorKind::kInternal, "a refusal without a row in errors.cc");
}

}  // namespace

int ApiError::status() const { return RowOf(refusal_).status; }

const char* ApiError::code() const { return RowOf(refusal_).code; }

Json ApiError::Body() const {
  const Row& row = RowOf(refusal_);
  Json param = nullptr;
  if (param_) param = *param_;
  Json error = {{"message", what()}, {"type", row.type}, {"param", param}, {"code", row.code}};
  return {{"error", std::move(error)}};
}

HttpResponse ApiError::Response() const {
  const Row& row = RowOf(refusal_);
  HttpResponse response;
  response.status = row.status;
  if (row.header != nullptr) response.headers.emplace_back(row.header, row.value);
  response.body = ToText(Body());
  return response;
}

ApiError ToApiError(const std::exception& exception) {
  if (const auto* api = dynamic_cast<const ApiError*>(&exception)) return *api;
  if (const auto* error = dynamic_cast<const Error*>(&exception)) {
    if (error->kind() == ErrorKind::kBadRequest) return ApiError(Refusal::kInvalidValue, error->what());
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
