#include "serve/field_reader.h"

#include <fmt/format.h>

#include "serve/errors.h"
#include "serve/json_body.h"
#include "serve/request_limits.h"

namespace sluice::serve {

using simdjson::dom::element;
using simdjson::dom::element_type;

std::string_view KindOf(element value) {
  switch (value.type()) {
    case element_type::ARRAY:
      return "an array";
    case element_type::OBJECT:
      return "an object";
    case element_type::INT64:
    case element_type::UINT64:
      return "an integer";
    case element_type::DOUBLE:
      return "a decimal number";
    case element_type::STRING:
      return "a string";
    case element_type::BOOL:
      return "a boolean";
    case element_type::NULL_VALUE:
      return "null";
  }
  return "something else";
}

namespace {

[[noreturn]] void OutOfRange(const std::string& path, const NumericField& limits, const std::string& found) {
  const std::string range = limits.max > 9e18
                                ? std::string("a 64-bit signed integer")
                                : fmt::format("{} {} and at most {}", limits.above_min ? "above" : "at least",
                                              limits.min, limits.max);
  throw ApiError(Refusal::kOutOfRange, fmt::format("{} is {}; it must be {}", path, found, range), path);
}

}  // namespace

void FieldReader::WrongType(std::string_view name, std::string_view expected, element found) const {
  throw ApiError(Refusal::kInvalidType,
                 fmt::format("{} is {}; it must be {}", Path(name), KindOf(found), expected), Path(name));
}

void FieldReader::Missing(std::string_view name, std::string_view what) const {
  throw ApiError(Refusal::kMissingParameter, fmt::format("{} is missing; send {}", Path(name), what),
                 Path(name));
}

void FieldReader::Unsupported(std::string_view name, std::string_view remedy) const {
  throw ApiError(Refusal::kUnsupportedParameter,
                 fmt::format("{} is not supported with this value; {}", Path(name), remedy), Path(name));
}

std::optional<element> FieldReader::Any(std::string_view name) {
  read_.emplace(name);
  element value;
  if (object_.at_key(name).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  return value;
}

bool FieldReader::IsNull(std::string_view name) const {
  element value;
  return object_.at_key(name).get(value) == simdjson::SUCCESS && value.is_null();
}

std::optional<bool> FieldReader::Bool(std::string_view name) {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  bool result = false;
  if (value->get_bool().get(result) != simdjson::SUCCESS) WrongType(name, "true or false", *value);
  return result;
}

std::optional<int64_t> FieldReader::Integer(std::string_view name) {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  const NumericField& limits = LimitsOf(name);
  if (value->type() == element_type::UINT64) {  // only above 2^63 - 1
    uint64_t found = 0;
    if (value->get_uint64().get(found) == simdjson::SUCCESS)
      OutOfRange(Path(name), limits, std::to_string(found));
  }
  int64_t result = 0;
  if (value->get_int64().get(result) != simdjson::SUCCESS) WrongType(name, "an integer", *value);
  const auto number = static_cast<double>(result);
  if (number < limits.min || number > limits.max) OutOfRange(Path(name), limits, std::to_string(result));
  return result;
}

std::optional<double> FieldReader::Decimal(std::string_view name) {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  double result = 0;
  if (!value->is_number() || value->get_double().get(result) != simdjson::SUCCESS) {
    WrongType(name, "a number", *value);
  }
  const NumericField& limits = LimitsOf(name);
  const bool low = limits.above_min ? !(result > limits.min) : !(result >= limits.min);
  if (low || result > limits.max) OutOfRange(Path(name), limits, fmt::format("{}", result));
  return result;
}

std::optional<std::string> FieldReader::String(std::string_view name) {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  std::string_view result;
  if (value->get_string().get(result) != simdjson::SUCCESS) WrongType(name, "a string", *value);
  return std::string(result);
}

std::optional<simdjson::dom::object> FieldReader::Object(std::string_view name) {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  if (!value->is_object()) WrongType(name, "an object", *value);
  return ObjectOf(*value);
}

std::optional<simdjson::dom::array> FieldReader::Array(std::string_view name) {
  const auto value = Any(name);
  if (!value) return std::nullopt;
  if (!value->is_array()) WrongType(name, "an array", *value);
  return ArrayOf(*value);
}

std::vector<std::string> FieldReader::Unread() const {
  std::vector<std::string> names;
  for (const auto& [key, value] : object_) {
    if (!read_.contains(key)) names.push_back(prefix_ + std::string(key));
  }
  return names;
}

}  // namespace sluice::serve
