#pragma once

#include <boost/beast/http/message.hpp>
#include <boost/system/error_code.hpp>
#include <optional>
#include <string>

#include "serve/errors.h"
#include "serve/exchange.h"
#include "serve/server.h"

// Between Beast's messages and what handlers see.
namespace sluice::serve {

// A request without its body. It keeps the id that the client has given it, if that is one, and else has
// `own_id`.
HttpRequest RequestOf(const boost::beast::http::request_header<>& header, const std::string& own_id);

// Status line and fields, each with its end, without the length of the body and the empty line.
// `allowed_origin`: the page that may read the answer; empty: none.
std::string HeadLines(const HttpResponse& response, const std::string& request_id,
                      const std::string& allowed_origin, bool close);

// What is answered to a request that could not be read; nothing where nobody is there to hear it.
std::optional<ApiError> RefusalOf(boost::system::error_code error, const ServerOptions& options);

}  // namespace sluice::serve
