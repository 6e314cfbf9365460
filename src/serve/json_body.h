#pragma once

#include <simdjson.h>

#include <string>
#include <string_view>

namespace sluice::serve {

// A request body, read strictly. Keeps what its elements point into.
class JsonBody {
 public:
  // Throws ApiError(kInvalidJson) unless `text` is one JSON object in UTF-8, at most kMaxJsonDepth levels
  // deep, without duplicate keys, lone surrogates, NaN, infinities or numbers beyond 64 bits.
  explicit JsonBody(const std::string& text);

  simdjson::dom::object object() const { return object_; }

 private:
  simdjson::dom::parser parser_;
  simdjson::dom::object object_;
};

// The value of an element that is known to be of this kind.
simdjson::dom::array ArrayOf(simdjson::dom::element value);
simdjson::dom::object ObjectOf(simdjson::dom::element value);
std::string_view TextOf(simdjson::dom::element value);

}  // namespace sluice::serve
