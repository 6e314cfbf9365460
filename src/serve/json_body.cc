#include "serve/json_body.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "serve/errors.h"
#include "serve/request_limits.h"

namespace sluice::serve {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

[[noreturn]] void Refuse(const std::string& sentence) { throw ApiError(Refusal::kInvalidJson, sentence); }

// Recursion is bounded by kMaxJsonDepth.
void RefuseDuplicateKeys(element value) {
  if (value.type() == element_type::ARRAY) {
    for (const element item : ArrayOf(value)) RefuseDuplicateKeys(item);
  } else if (value.type() == element_type::OBJECT) {
    std::vector<std::string_view> keys;
    for (const auto& [key, item] : ObjectOf(value)) {
      keys.push_back(key);
      RefuseDuplicateKeys(item);
    }
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      Refuse(fmt::format("the body has the key \"{}\" twice in one object", Quoted(*twice)));
  }
}

template <typename T>
T Known(element value) {
  T result;
  SLUICE_CHECK(value.get(result) == simdjson::SUCCESS, "the kind of a JSON value was not looked at");
  return result;
}

}  // namespace

simdjson::dom::array ArrayOf(element value) { return Known<simdjson::dom::array>(value); }
simdjson::dom::object ObjectOf(element value) { return Known<simdjson::dom::object>(value); }
std::string_view TextOf(element value) { return Known<std::string_view>(value); }

JsonBody::JsonBody(const std::string& text) {
  // The parser's own count has one level more: the document around the root.
  if (parser_.allocate(text.size() + 1, kMaxJsonDepth + 1) != simdjson::SUCCESS) {
    Refuse(fmt::format("the body of {} bytes is more than the JSON reader can hold", text.size()));
  }
  element root;
  switch (const simdjson::error_code code = parser_.parse(text).get(root)) {
    case simdjson::SUCCESS:
      break;
    case simdjson::DEPTH_ERROR:
      Refuse(fmt::format("the body is nested more than {} levels deep", kMaxJsonDepth));
    case simdjson::UTF8_ERROR:
      Refuse("the body is not valid UTF-8");
    case simdjson::EMPTY:
      Refuse("the body is empty; send one JSON object");
    case simdjson::NUMBER_ERROR:
      Refuse("the body has a number that is malformed or beyond 64 bits");
    case simdjson::STRING_ERROR:
      Refuse("the body has a string with a bad escape or a lone surrogate");
    default:
      Refuse(fmt::format("the body is not valid JSON ({})", simdjson::error_message(code)));
  }
  if (root.get_object().get(object_) != simdjson::SUCCESS) Refuse("the body must be a JSON object");
  RefuseDuplicateKeys(root);
}

}  // namespace sluice::serve
