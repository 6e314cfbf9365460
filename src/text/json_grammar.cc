#include "text/json_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <vector>

#include "base/error.h"
#include "text/ebnf.h"

namespace sluice::text {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kAnnotations[] = {"title",    "description", "default",    "examples",
                                             "$schema",  "$id",         "$comment",   "$defs",
                                             "readOnly", "writeOnly",   "deprecated", "definitions"};

// The keywords that say something about values of one type; beside others they say nothing.
const std::map<std::string_view, std::vector<std::string_view>> kOfType = {
    {"object", {"properties", "required", "additionalProperties"}},
    {"array", {"items", "minItems", "maxItems"}},
    {"string", {}},
    {"number", {}},
    {"integer", {}},
    {"boolean", {}},
    {"null", {}}};

bool Contains(std::span<const std::string_view> list, std::string_view name) {
  return std::ranges::find(list, name) != list.end();
}

bool HasType(const Json& value, std::string_view type) {
  if (type == "integer") {
    return value.is_number_integer() ||
           (value.is_number() && value.get<double>() == std::floor(value.get<double>()));
  }
  return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
         (type == "string" && value.is_string()) || (type == "number" && value.is_number()) ||
         (type == "boolean" && value.is_boolean()) || (type == "null" && value.is_null());
}

class SchemaRules {
 public:
  // Names of rules begin with `prefix`.
  explicit SchemaRules(const Json& root, std::string_view prefix = {}) : root_(root), prefix_(prefix) {}

  // The rule `name` of the schema at `place`, and those that it needs.
  std::string Make(std::string_view name, const std::string& place) {
    const std::string first = RuleOf(place, 0);
    return fmt::format("{} ::= {}\n{}", name, first, rules_);
  }

 private:
  // A JSON pointer into the schema.
  using Place = std::string;

  template <typename... Args>
  [[noreturn]] static void Refuse(const Place& place, fmt::format_string<Args...> format, Args&&... args) {
    Fail(ErrorKind::kBadRequest, "the schema at \"#{}\" {}",
         place.size() > 200 ? place.substr(0, 200) : place, fmt::format(format, std::forward<Args>(args)...));
  }

  static Place Under(const Place& place, std::string_view name) {
    Place under = place + '/';
    for (const char c : name) under += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    return under;
  }

  // The name of the rule of the schema at `place`, which is written if it is not there yet.
  std::string RuleOf(const Place& place, int depth) {
    if (const auto known = names_.find(place); known != names_.end()) {
      if (unguarded_.contains(place)) {
        Refuse(place, "refers to itself without an object or an array in between: no value is ever complete");
      }
      return known->second;
    }
    if (depth > kMaxSchemaDepth) {
      Refuse(place, "lies more than {} schemas deep: make it flatter", kMaxSchemaDepth);
    }
    if (std::ssize(names_) == kMaxSchemaNodes) {
      Fail(ErrorKind::kBadRequest, "the schema has more than {} schemas inside: make it smaller",
           kMaxSchemaNodes);
    }
    const std::string name = fmt::format("{}n{}", prefix_, names_.size());
    names_.emplace(place, name);
    unguarded_.insert(place);
    const std::string body = Body(place, depth);
    unguarded_.erase(place);
    rules_ += fmt::format("{} ::= {}\n", name, body);
    return name;
  }

  // As RuleOf, behind at least one character of an object or an array.
  std::string GuardedRuleOf(const Place& place, int depth) {
    std::set<Place> unguarded;
    unguarded.swap(unguarded_);
    std::string name = RuleOf(place, depth);
    unguarded.swap(unguarded_);
    return name;
  }

  std::string Body(const Place& place, int depth) {
    const Json& schema = root_.at(Json::json_pointer(place));
    if (schema.is_boolean()) {
      if (!schema.get<bool>()) Refuse(place, "is false, which no value fulfils");
      return "value";
    }
    if (!schema.is_object()) Refuse(place, "is {}; a schema is an object, true or false", schema.type_name());
    for (const std::string_view whole : {"$ref", "anyOf", "allOf", "enum", "const"}) {
      if (!schema.contains(whole)) continue;
      for (const auto& [keyword, value] : schema.items()) {
        const bool type = keyword == "type" && (whole == "enum" || whole == "const");
        if (keyword != whole && !type && !Contains(kAnnotations, keyword)) {
          Refuse(place, "has \"{}\" beside \"{}\", which is not supported: leave one of them out", keyword,
                 whole);
        }
      }
      if (whole == "$ref") return Reference(place, schema["$ref"], depth);
      if (whole == "anyOf" || whole == "allOf") return Choice(place, whole, schema[whole], depth);
      return Values(place, whole, schema);
    }
    return Typed(place, schema, depth);
  }

  std::string Reference(const Place& place, const Json& target, int depth) {
    const std::string text = target.is_string() ? target.get<std::string>() : "";
    if (!text.starts_with('#') || text.find('%') != std::string::npos) {
      Refuse(place, "has a \"$ref\" that does not lie in the schema; write \"#/$defs/NAME\"");
    }
    const Place to = text.substr(1);
    bool found = false;
    try {
      found = root_.contains(Json::json_pointer(to));
    } catch (const nlohmann::json::exception&) {
      // Not a JSON pointer.
    }
    if (!found) Refuse(place, "has a \"$ref\" to a place that is not there");
    return RuleOf(to, depth + 1);
  }

  std::string Choice(const Place& place, std::string_view keyword, const Json& members, int depth) {
    if (!members.is_array() || members.empty())
      Refuse(place, "has \"{}\" that is no list of schemas", keyword);
    if (keyword == "allOf" && members.size() > 1) {
      Refuse(place, "has \"allOf\" with {} members; one is supported: write them as one schema",
             members.size());
    }
    std::string body;
    for (size_t i = 0; i < members.size(); ++i) {
      if (i > 0) body += " | ";
      body += RuleOf(Under(Under(place, keyword), std::to_string(i)), depth + 1);
    }
    return body;
  }

  // The types the schema names; empty: any.
  static std::vector<std::string> TypesOf(const Place& place, const Json& schema) {
    std::vector<std::string> types;
    if (!schema.contains("type")) return types;
    const Json& type = schema["type"];
    const auto add = [&](const Json& name) {
      if (!name.is_string() || !kOfType.contains(name.get<std::string>())) {
        Refuse(place, "has a \"type\" that is none of object, array, string, number, integer, boolean, null");
      }
      types.push_back(name);
    };
    if (type.is_array() && !type.empty()) {
      for (const Json& name : type) add(name);
    } else {
      add(type);
    }
    return types;
  }

  std::string Values(const Place& place, std::string_view keyword, const Json& schema) {
    const std::vector<std::string> types = TypesOf(place, schema);
    const Json values = keyword == "const" ? Json::array({schema["const"]}) : schema["enum"];
    if (!values.is_array() || values.empty()) Refuse(place, "has \"enum\" that is no list of values");
    std::string body;
    for (const Json& value : values) {
      if (++enum_values_ > kMaxSchemaEnumValues) {
        Refuse(place, "brings the values of \"enum\" to more than {}: leave some out", kMaxSchemaEnumValues);
      }
      const auto fits = [&](const std::string& type) { return HasType(value, type); };
      if (!types.empty() && std::ranges::none_of(types, fits)) continue;
      if (!body.empty()) body += " | ";
      body += EbnfLiteral(value.dump());
    }
    if (body.empty()) Refuse(place, "has no value in \"{}\" that is of its \"type\"", keyword);
    return body;
  }

  std::string Typed(const Place& place, const Json& schema, int depth) {
    std::vector<std::string> types = TypesOf(place, schema);
    std::set<std::string_view> spoken_of;
    for (const auto& [keyword, value] : schema.items()) {
      if (keyword == "type" || Contains(kAnnotations, keyword)) continue;
      if (keyword == "uniqueItems" && value == false) continue;
      const auto owner =
          std::ranges::find_if(kOfType, [&](const auto& entry) { return Contains(entry.second, keyword); });
      if (owner == kOfType.end()) {
        Refuse(place, "has the keyword \"{}\", which is not supported: leave it out",
               keyword.size() > 100 ? keyword.substr(0, 100) : keyword);
      }
      spoken_of.insert(owner->first);
    }
    // Without a type the keywords leave values of other types free; those of the type they are about are
    // valid as well, and what is meant.
    if (types.empty()) types.assign(spoken_of.begin(), spoken_of.end());
    if (types.empty()) return "value";
    std::string body;
    for (const std::string& type : types) {
      if (!body.empty()) body += " | ";
      if (type == "object") {
        body += Object(place, schema, depth);
      } else if (type == "array") {
        body += Array(place, schema, depth);
      } else {
        body += type == "boolean" ? "\"true\" | \"false\"" : type == "null" ? "\"null\"" : type;
      }
    }
    return body;
  }

  static int64_t Count(const Place& place, const Json& schema, std::string_view keyword, int64_t absent,
                       int64_t most) {
    if (!schema.contains(keyword)) return absent;
    const Json& value = schema[keyword];
    if (!value.is_number_integer() || value.get<double>() < 0 ||
        value.get<double>() > static_cast<double>(most)) {
      Refuse(place, "has a \"{}\" that is no whole number from 0 to {}", keyword, most);
    }
    return value;
  }

  std::string Array(const Place& place, const Json& schema, int depth) {
    const int64_t least = Count(place, schema, "minItems", 0, kMaxSchemaItems);
    const int64_t most = Count(place, schema, "maxItems", -1, kMaxSchemaItems);
    if (most >= 0 && most < least) Refuse(place, "has \"minItems\" {} above \"maxItems\" {}", least, most);
    if (most == 0) return R"("[" ws "]")";
    const std::string item =
        schema.contains("items") ? GuardedRuleOf(Under(place, "items"), depth + 1) : "value";
    const std::string first = item + " ws";
    const std::string more = fmt::format("(\",\" ws {} ws)", item);
    const int64_t others = std::max<int64_t>(least - 1, 0);
    const std::string rest = most < 0 ? fmt::format("{}{{{},}}", more, others)
                                      : fmt::format("{}{{{},{}}}", more, others, most - 1);
    const std::string items = most == 1 ? first : fmt::format("{} {}", first, rest);
    return fmt::format(R"("[" ws ({}){} "]")", items, least == 0 ? "?" : "");
  }

  std::string Object(const Place& place, const Json& schema, int depth) {
    struct Property {
      std::string rule;  // of the member, with the white space behind it
      bool required = false;
    };
    const bool closed = schema.contains("additionalProperties") && schema["additionalProperties"] == false;
    const std::string other = schema.contains("additionalProperties") && !closed
                                  ? GuardedRuleOf(Under(place, "additionalProperties"), depth + 1)
                                  : "value";
    std::set<std::string> required;
    if (schema.contains("required")) {
      if (!schema["required"].is_array()) Refuse(place, "has \"required\" that is no list of names");
      for (const Json& name : schema["required"]) {
        if (!name.is_string()) Refuse(place, "has \"required\" that is no list of names");
        required.insert(name);
      }
    }
    std::vector<Property> properties;
    const auto add = [&](const std::string& name, const std::string& value, bool must) {
      properties.push_back(
          {fmt::format("{} ws \":\" ws {} ws", EbnfLiteral(Json(name).dump()), value), must});
    };
    if (schema.contains("properties")) {
      if (!schema["properties"].is_object()) Refuse(place, "has \"properties\" that are no object");
      const Place under = Under(place, "properties");
      for (const auto& [name, value] : schema["properties"].items()) {
        add(name, GuardedRuleOf(Under(under, name), depth + 1), required.contains(name));
        required.erase(name);
      }
    }
    for (const std::string& name : required) {
      if (closed)
        Refuse(place, "requires \"{}\", which \"additionalProperties\": false forbids", name.substr(0, 100));
      if (std::ssize(properties) == kMaxSchemaNodes)
        Refuse(place, "requires more than {} names", kMaxSchemaNodes);
      add(name, other, true);
    }
    if (properties.empty()) {
      if (closed) return R"("{" ws "}")";
      return fmt::format(R"("{{" ws (string ws ":" ws {0} ws ("," ws string ws ":" ws {0} ws)*)? "}}")",
                         other);
    }
    // rest(i): what may follow a member when those from i on are left; begin(i): when there is none yet.
    const std::string name = fmt::format("{}o{}", prefix_, objects_++);
    const auto rest = [&](size_t i) {
      return i < properties.size() ? fmt::format("{}r{}", name, i) : "\"\"";
    };
    std::string begins;
    bool may_be_empty = true;
    for (size_t i = 0; i < properties.size(); ++i) {
      const Property& property = properties[i];
      rules_ += fmt::format("{}m{} ::= {}\n", name, i, property.rule);
      const std::string next = i + 1 < properties.size() ? " " + rest(i + 1) : "";
      if (i > 0) {
        rules_ += fmt::format("{}r{} ::= \",\" ws {}m{}{}{}\n", name, i, name, i, next,
                              property.required ? "" : " | " + rest(i + 1));
      }
      if (may_be_empty) begins += fmt::format("{}{}m{}{}", begins.empty() ? "" : " | ", name, i, next);
      if (property.required) may_be_empty = false;
    }
    return fmt::format(R"("{{" ws ({}){} "}}")", begins, may_be_empty ? "?" : "");
  }

  const Json& root_;
  std::string prefix_;
  std::map<Place, std::string> names_;  // rules begun
  std::set<Place> unguarded_;           // of these the ones that nothing stands before
  std::string rules_;
  int64_t enum_values_ = 0;
  int64_t objects_ = 0;
};

Json ParseSchema(std::string_view schema) {
  if (schema.size() > kMaxSchemaBytes) {
    Fail(ErrorKind::kBadRequest, "the schema has {} bytes; at most {} are taken: make it smaller",
         schema.size(), kMaxSchemaBytes);
  }
  try {
    return Json::parse(schema);
  } catch (const nlohmann::json::exception& error) {
    Fail(ErrorKind::kBadRequest, "the schema is not JSON: {}", error.what());
  }
}

}  // namespace

std::string JsonSchemaRules(std::string_view schema) {
  return SchemaRules(ParseSchema(schema)).Make("root", "") + SharedJsonRules("");
}

std::string JsonSchemaRulesAt(std::string_view name, std::string_view schema, const std::string& place) {
  return SchemaRules(ParseSchema(schema), name).Make(name, place);
}

}  // namespace sluice::text
