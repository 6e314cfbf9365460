#pragma once

#include <simdjson.h>

#include <string>

namespace sluice::serve {

// A request body, read strictly. Keeps what its elements point into.
class JsonBody {
 public:
  // Throws ApiError(kInvalidJson) unless `text` is one JSON object in UTF-8, at most kMaxJsonDepth levels deep,
  // without duplicate keys, lone surrogates, NaN, infinities or numbers beyond 64 bits.
  explicit JsonBody(const std::string& text);

  simdjson::dom::object object() const { return object_; }

 private:
  simdjson::dom::parser parser_;
  simdjson::dom::object object_;
};

}  // namespace sluice::serve
