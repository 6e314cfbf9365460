#include "text/json_value.h"

#include <algorithm>

#include "base/error.h"
#include "text/utf8.h"

namespace sluice::text {
namespace {

constexpr std::size_t kExcerptBytes = 60;

}  // namespace

std::string JsonValue::where() const {
  return fmt::format("{}: {}", *file_, place_.empty() ? "the top level" : place_);
}

void JsonValue::Refuse(std::string_view found, std::string_view supported) const {
  Fail(ErrorKind::kModelFiles, "{} is {}; supported: {}.", where(), found, supported);
}

int32_t JsonValue::TokenId() const {
  const auto id = As<int64_t>("a token id");
  if (id < 0 || id >= kTokenIdEnd) Refuse(fmt::format("a token id from 0 to {}", kTokenIdEnd - 1));
  return static_cast<int32_t>(id);
}

void JsonValue::ExpectBool(bool value) const {
  if (Bool() != value) Refuse(value ? "true" : "false");
}

void JsonValue::ExpectString(std::string_view value) const {
  if (String() != value) Refuse(fmt::format("\"{}\"", value));
}

void JsonValue::ExpectNull() const {
  if (!is_null()) Refuse("null");
}

void JsonValue::ExpectOnly(std::initializer_list<std::string_view> names) const {
  for (const auto& [key, value] : Object()) {
    if (std::find(names.begin(), names.end(), key) == names.end()) {
      JsonValue(*file_, Member(key), value)
          .Refuse("a member that is not known here", fmt::format("{}", fmt::join(names, ", ")));
    }
  }
}

JsonValue JsonValue::operator[](std::string_view key) const {
  Element member;
  if (Object().at_key(key).get(member) != simdjson::SUCCESS) return {*file_, Member(key), std::nullopt};
  return {*file_, Member(key), member};
}

JsonValue JsonValue::At(std::size_t index, Element item) const {
  return {*file_, fmt::format("{}[{}]", place_, index), item};
}

std::string JsonValue::Excerpt() const {
  if (!value_.has_value()) return "missing";
  const std::string text = simdjson::minify(*value_);
  if (text.size() <= kExcerptBytes) return text;
  std::string excerpt;
  AppendRepaired(std::string_view(text).substr(0, kExcerptBytes), excerpt);
  return excerpt + "...";
}

std::string JsonValue::Member(std::string_view key) const {
  return place_.empty() ? std::string(key) : fmt::format("{}.{}", place_, key);
}

}  // namespace sluice::text
