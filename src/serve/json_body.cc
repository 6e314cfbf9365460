#include "serve/json_body.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
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

// The 16 bits of an escape \uXXXX whose backslash is at `at`.
std::optional<unsigned> EscapedUnit(std::string_view text, std::size_t at) {
  if (at + 6 > text.size() || text[at] != '\\' || text[at + 1] != 'u') return std::nullopt;
  unsigned unit = 0;
  for (std::size_t i = at + 2; i < at + 6; ++i) {
    const char c = text[i];
    unsigned digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<unsigned>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<unsigned>(c - 'a') + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<unsigned>(c - 'A') + 10;
    } else {
      return std::nullopt;
    }
    unit = unit * 16 + digit;
  }
  return unit;
}

// Backslashes occur only inside strings, and the parser has already accepted the text, so escapes can be
// walked without following the structure. The parser alone is not enough: it lets a lone low surrogate pass.
void RefuseLoneSurrogates(std::string_view text) {
  std::size_t at = text.find('\\');
  while (at != std::string_view::npos) {
    const auto unit = EscapedUnit(text, at);
    std::size_t next = at + (unit ? 6 : 2);
    if (unit && *unit >= 0xD800 && *unit <= 0xDFFF) {
      const auto low = *unit <= 0xDBFF ? EscapedUnit(text, next) : std::nullopt;
      if (!low || *low < 0xDC00 || *low > 0xDFFF) {
        Refuse(fmt::format("the body has the lone surrogate \\u{:04x} at byte {}; send it as a pair", *unit,
                           at));
      }
      next += 6;
    }
    at = next < text.size() ? text.find('\\', next) : std::string_view::npos;
  }
}

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
  RefuseLoneSurrogates(text);
  RefuseDuplicateKeys(root);
}

}  // namespace sluice::serve
