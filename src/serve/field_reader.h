#pragma once

#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::serve {

// Reads the members of one JSON object of a request, each at most once, by name. An absent member and a null
// one are the same but for IsNull. Wrong types, numbers outside request_limits and so on throw ApiError
// naming the field.
class FieldReader {
 public:
  // `prefix` comes before names in messages: "messages[2]." for the third message.
  explicit FieldReader(simdjson::dom::object object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  std::optional<bool> Bool(std::string_view name);
  // Within LimitsOf(name).
  std::optional<int64_t> Integer(std::string_view name);
  std::optional<double> Decimal(std::string_view name);
  std::optional<std::string> String(std::string_view name);
  std::optional<simdjson::dom::element> Any(std::string_view name);
  // Whether the member is there and null, for the fields where that differs from an absent one.
  bool IsNull(std::string_view name) const;
  std::optional<simdjson::dom::object> Object(std::string_view name);
  std::optional<simdjson::dom::array> Array(std::string_view name);

  // kMissingParameter for a field that must be there.
  [[noreturn]] void Missing(std::string_view name, std::string_view what) const;
  [[noreturn]] void WrongType(std::string_view name, std::string_view expected,
                              simdjson::dom::element found) const;
  // Throws kUnsupportedParameter for a field that OpenAI's API or another server has and this one has not.
  [[noreturn]] void Unsupported(std::string_view name, std::string_view remedy) const;

  // Members present and read by nobody, in the order of the object.
  std::vector<std::string> Unread() const;
  std::string Path(std::string_view name) const { return prefix_ + std::string(name); }

 private:
  simdjson::dom::object object_;
  std::string prefix_;
  std::set<std::string, std::less<>> read_;
};

// "a string", "an array", ... of a JSON value.
std::string_view KindOf(simdjson::dom::element value);

}  // namespace sluice::serve
