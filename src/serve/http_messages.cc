#include "serve/http_messages.h"

#include <fmt/format.h>

#include <boost/beast/http.hpp>
#include <sstream>

#include "serve/http_text.h"
#include "serve/ids.h"

namespace sluice::serve {

namespace http = boost::beast::http;

HttpRequest RequestOf(const http::request_header<>& header, const std::string& own_id) {
  const std::string given(header["x-request-id"]);
  HttpRequest request;
  request.method = header.method() == http::verb::head ? "GET" : std::string(header.method_string());
  request.path = PathOf(std::string(header.target()));
  request.content_type = std::string(header[http::field::content_type]);
  request.content_encoding = std::string(header[http::field::content_encoding]);
  request.authorization = std::string(header[http::field::authorization]);
  request.origin = std::string(header[http::field::origin]);
  request.host = std::string(header[http::field::host]);
  request.request_id = IsRequestId(given) ? given : own_id;
  return request;
}

std::string HeadLines(const HttpResponse& response, const std::string& request_id,
                      const std::string& allowed_origin, bool close) {
  http::response<http::empty_body> head(static_cast<http::status>(response.status), 11);
  head.set(http::field::server, "sluice");
  head.set(http::field::date, HttpDate());
  head.set(http::field::content_type, response.content_type);
  head.set("x-request-id", request_id);
  for (const auto& [name, value] : response.headers) head.set(name, value);
  if (!allowed_origin.empty()) {
    head.set(http::field::access_control_allow_origin, allowed_origin);
    head.set(http::field::access_control_expose_headers, "x-request-id, x-ignored-fields, retry-after");
    head.set(http::field::vary, "Origin");
  }
  head.set(http::field::connection, close ? "close" : "keep-alive");
  std::ostringstream text;
  text << head.base();
  std::string lines = text.str();
  lines.resize(lines.size() - 2);  // the empty line, more fields follow
  return lines;
}

std::optional<ApiError> RefusalOf(boost::system::error_code error, const ServerOptions& options) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return ApiError(Refusal::kHeadersTooLarge,
                    fmt::format("the request's headers are more than {} bytes", options.max_header_bytes));
  }
  if (error == http::error::body_limit) {
    return ApiError(Refusal::kRequestTooLarge,
                    fmt::format("the request's body is more than {} bytes", options.max_body_bytes));
  }
  if (error == http::error::end_of_stream || error == http::error::partial_message ||
      error.category() != make_error_code(http::error::bad_method).category()) {
    return std::nullopt;
  }
  return ApiError(Refusal::kBadHttp, fmt::format("this is not a proper HTTP request: {}", error.message()));
}

}  // namespace sluice::serve
