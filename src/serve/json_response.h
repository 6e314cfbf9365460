#pragma once

#include "serve/exchange.h"
#include "serve/json.h"

namespace sluice::serve {

// 200 with this body.
inline HttpResponse JsonResponse(const Json& body) {
  HttpResponse response;
  response.body = ToText(body);
  return response;
}

}  // namespace sluice::serve
