#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

// For tests: JSON Schema without the grammars that are made of it.
namespace sluice::text {

// What JSON Schema says as its specification words it, for the keywords in use; nothing here is shared with
// the rules.
inline bool IsValid(const nlohmann::json& root, const nlohmann::json& schema, const nlohmann::json& value) {
  if (schema.is_boolean()) return schema.get<bool>();
  const auto sub = [&](const nlohmann::json& s, const nlohmann::json& v) { return IsValid(root, s, v); };
  if (schema.contains("$ref") &&
      !sub(root.at(nlohmann::json::json_pointer(schema["$ref"].get<std::string>().substr(1))), value)) {
    return false;
  }
  if (schema.contains("anyOf")) {
    if (std::ranges::none_of(schema["anyOf"], [&](const nlohmann::json& s) { return sub(s, value); }))
      return false;
  }
  if (schema.contains("enum") && std::ranges::find(schema["enum"], value) == schema["enum"].end())
    return false;
  if (schema.contains("const") && schema["const"] != value) return false;
  if (schema.contains("type")) {
    const auto is = [&](const std::string& type) {
      if (type == "integer")
        return value.is_number() && value.get<double>() == std::floor(value.get<double>());
      if (type == "number") return value.is_number();
      return type == value.type_name();
    };
    const nlohmann::json types =
        schema["type"].is_array() ? schema["type"] : nlohmann::json::array({schema["type"]});
    if (std::ranges::none_of(types, is)) return false;
  }
  if (value.is_object()) {
    for (const nlohmann::json& name : schema.value("required", nlohmann::json::array())) {
      if (!value.contains(name)) return false;
    }
    const nlohmann::json properties = schema.value("properties", nlohmann::json::object());
    for (const auto& [name, member] : value.items()) {
      const nlohmann::json of = properties.contains(name)
                                    ? properties[name]
                                    : schema.value("additionalProperties", nlohmann::json(true));
      if (!sub(of, member)) return false;
    }
  }
  if (value.is_array()) {
    const auto size = static_cast<int64_t>(value.size());
    if (size < schema.value("minItems", 0) || size > schema.value("maxItems", int64_t{1} << 40)) return false;
    for (const nlohmann::json& item : value) {
      if (!sub(schema.value("items", nlohmann::json(true)), item)) return false;
    }
  }
  return true;
}

// Schemas of the keywords in use, and values; few of a value fit a schema.
class RandomJson {
 public:
  using Json = nlohmann::json;
  explicit RandomJson(uint32_t seed) : engine(seed) {}
  int64_t Below(int64_t end) { return static_cast<int64_t>(engine() % static_cast<uint64_t>(end)); }
  bool OneIn(int64_t n) { return Below(n) == 0; }

  std::string Text() {
    static const char* const kPieces[] = {"a", "B", "é", "中", "💡", "\"", "\\", " ", "\n", "0", "/", "\x01"};
    std::string text;
    for (int64_t n = Below(5); n > 0; --n) text += kPieces[Below(std::size(kPieces))];
    return text;
  }

  Json Value(int depth) {
    switch (Below(depth > 0 ? 7 : 5)) {
      case 0:
        return nullptr;
      case 1:
        return OneIn(2);
      case 2:
        return Below(2000) - 1000;
      case 3:
        return static_cast<double>(Below(2000) - 1000) + 0.125;
      case 4:
        return Text();
      case 5: {
        Json list = Json::array();
        for (int64_t n = Below(3); n > 0; --n) list.push_back(Value(depth - 1));
        return list;
      }
      default: {
        Json object = Json::object();
        for (int64_t n = Below(3); n > 0; --n) object[Text()] = Value(depth - 1);
        return object;
      }
    }
  }

  Json Schema(int depth) {
    Json schema = Json::object();
    if (OneIn(8)) schema["title"] = Text();
    switch (Below(depth > 0 ? 12 : 7)) {
      case 0:
        schema["type"] = "string";
        break;
      case 1:
        schema["type"] = OneIn(2) ? "integer" : "number";
        break;
      case 2:
        schema["type"] = OneIn(2) ? "boolean" : "null";
        break;
      case 3:
        schema["enum"] = {Value(1), Value(1), Value(0)};
        break;
      case 4:
        schema["const"] = Value(1);
        break;
      case 5:
        schema["type"] = {"null", "string", "integer"};
        break;
      case 6:
        return OneIn(3) ? Json(true) : schema;
      case 7:
      case 8:
        schema["type"] = "array";
        if (OneIn(2)) schema["items"] = Schema(depth - 1);
        if (OneIn(2)) schema["minItems"] = Below(3);
        if (OneIn(2)) schema["maxItems"] = 2 + Below(2);
        break;
      case 9:
        schema["anyOf"] = {Schema(depth - 1), Schema(depth - 1)};
        break;
      default:
        schema["type"] = "object";
        for (int64_t n = Below(4); n > 0; --n) {
          const std::string name = Text();
          schema["properties"][name] = Schema(depth - 1);
          if (OneIn(2)) schema["required"].push_back(name);
        }
        if (OneIn(3)) schema["additionalProperties"] = false;
        if (OneIn(4)) schema["additionalProperties"] = Schema(depth - 1);
    }
    return schema;
  }

  std::mt19937 engine;
};

}  // namespace sluice::text
