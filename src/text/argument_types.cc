#include "text/argument_types.h"

#include <nlohmann/json.hpp>

#include "text/python_json.h"
#include "text/white_space.h"

namespace sluice::text {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxReferences = 32;  // and schemas inside each other

void Add(ArgumentTypes& types, std::string_view name) {
  types.string |= name == "string";
  types.null |= name == "null";
  types.boolean |= name == "boolean";
  types.number |= name == "number";
  types.integer |= name == "integer";
  types.object |= name == "object";
  types.array |= name == "array";
}

void Add(ArgumentTypes& types, const ArgumentTypes& more) {
  types.string |= more.string;
  types.null |= more.null;
  types.boolean |= more.boolean;
  types.number |= more.number;
  types.integer |= more.integer;
  types.object |= more.object;
  types.array |= more.array;
}

void AddTypeOf(ArgumentTypes& types, const Json& value) {
  Add(types, value.is_number_integer() ? "integer" : value.type_name());
}

ArgumentTypes TypesOf(const Json& root, const Json& schema, int depth) {
  ArgumentTypes types;
  if (!schema.is_object() || depth > kMaxReferences) return types;
  if (schema.contains("$ref") && schema["$ref"].is_string()) {
    const std::string target = schema["$ref"];
    try {
      if (target.starts_with('#')) {
        return TypesOf(root, root.at(Json::json_pointer(target.substr(1))), depth + 1);
      }
    } catch (const nlohmann::json::exception&) {
      // Nothing is there.
    }
    return types;
  }
  if (schema.contains("type")) {
    const Json& type = schema["type"];
    for (const Json& name : type.is_array() ? type : Json::array({type})) {
      if (name.is_string()) Add(types, name.get<std::string>());
    }
  }
  if (types.any()) return types;
  if (schema.contains("const")) AddTypeOf(types, schema["const"]);
  if (schema.contains("enum") && schema["enum"].is_array()) {
    for (const Json& value : schema["enum"]) AddTypeOf(types, value);
  }
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (!schema.contains(keyword) || !schema[keyword].is_array()) continue;
    for (const Json& member : schema[keyword]) Add(types, TypesOf(root, member, depth + 1));
  }
  if (types.any()) return types;
  if (schema.contains("allOf") && schema["allOf"].is_array()) {
    for (const Json& member : schema["allOf"]) {
      types = TypesOf(root, member, depth + 1);
      if (types.any()) return types;
    }
  }
  types.object = schema.contains("properties") || schema.contains("additionalProperties");
  types.array = schema.contains("items");
  return types;
}

}  // namespace

ArgumentTypes TypesAt(const Json& root, const std::string& place) {
  try {
    return TypesOf(root, root.at(Json::json_pointer(place)), 0);
  } catch (const nlohmann::json::exception&) {
    return {};
  }
}

FunctionTypes::FunctionTypes(std::span<const std::string> functions) {
  for (const std::string& text : functions) {
    const Json function = Json::parse(text, nullptr, false);
    if (!function.is_object() || !function.contains("name") || !function["name"].is_string()) continue;
    Function& known = functions_[function["name"].get<std::string>()];
    if (!function.contains("parameters") || !function["parameters"].is_object()) continue;
    const Json& parameters = function["parameters"];
    if (parameters.contains("properties") && parameters["properties"].is_object()) {
      for (const auto& [name, schema] : parameters["properties"].items()) {
        known.arguments[name] = TypesOf(parameters, schema, 0);
      }
    }
    if (parameters.contains("additionalProperties")) {
      known.others = TypesOf(parameters, parameters["additionalProperties"], 0);
    }
  }
}

ArgumentTypes FunctionTypes::Of(const std::string& function, const std::string& argument) const {
  const auto known = functions_.find(function);
  if (known == functions_.end()) return {};
  const auto found = known->second.arguments.find(argument);
  return found == known->second.arguments.end() ? known->second.others : found->second;
}

std::string ArgumentJson(const ArgumentTypes& types, std::string_view text) {
  const std::string_view json = Trimmed(text);
  if (types.string) return types.null && json == "null" ? "null" : PythonJsonString(text);
  if (IsJson(json) && (types.any() || json.front() != '"')) return std::string(json);
  if (types.any()) {
    if (json == "True") return "true";
    if (json == "False") return "false";
    if (json == "None") return "null";
  }
  return PythonJsonString(text);
}

}  // namespace sluice::text
