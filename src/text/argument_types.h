#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

namespace sluice::text {

// The JSON types that a value may have; no bit: nothing is known of it.
struct ArgumentTypes {
  bool string = false;
  bool null = false;
  bool boolean = false;
  bool number = false;  // and whole numbers
  bool integer = false;
  bool object = false;
  bool array = false;

  bool any() const { return string || null || boolean || number || integer || object || array; }
  bool operator==(const ArgumentTypes&) const = default;
};

// What the schema at `place` (a JSON pointer) of `root` says of types: by `type`, `enum`, `const`, the
// members of `anyOf` and `oneOf` together, the first of `allOf` that says something, `$ref` within `root`,
// and keywords that only objects (properties, additionalProperties) or arrays (items) have.
ArgumentTypes TypesAt(const nlohmann::ordered_json& root, const std::string& place);

// The types of the arguments of functions, each given as JSON with `name` and `parameters`. What cannot be
// understood is not known.
class FunctionTypes {
 public:
  explicit FunctionTypes(std::span<const std::string> functions);

  ArgumentTypes Of(const std::string& function, const std::string& argument) const;

 private:
  struct Function {
    std::map<std::string, ArgumentTypes, std::less<>> arguments{};
    ArgumentTypes others{};  // additionalProperties
  };
  std::map<std::string, Function, std::less<>> functions_;
};

// An argument as JSON, from a markup that writes strings as they are and everything else as JSON:
//   may be a string      the text as it is; null where that is a type as well and the text says so
//   is none              the text if it is JSON; Python's True, False and None; else a string
//   nothing is known     the text if it is JSON and no quoted string; else a string
std::string ArgumentJson(const ArgumentTypes& types, std::string_view text);

}  // namespace sluice::text
