#include "text/glm47_grammar.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/argument_types.h"
#include "text/ebnf.h"
#include "text/glm_texts.h"
#include "text/json_grammar.h"

namespace sluice::text {
namespace {

using Json = nlohmann::ordered_json;

std::string Literal(std::string_view a, std::string_view b = {}, std::string_view c = {},
                    std::string_view d = {}) {
  return EbnfLiteral(std::string(a).append(b).append(c).append(d));
}

// `raw`: any text up to and with the first </arg_value>. The rule raw7 says that seven characters of the mark
// have just been read; no beginning of it but "<" ends another.
std::string RawRules() {
  const std::string_view mark = kGlmValueClose;
  std::string rules = "raw ::= [^<] raw | \"<\" raw1\n";
  for (std::size_t read = 1; read < mark.size(); ++read) {
    const bool last = read + 1 == mark.size();
    rules += fmt::format("raw{0} ::= \"{1}\"{2} | \"<\" raw1 | [^{1}<] raw\n", read, mark[read],
                         last ? "" : fmt::format(" raw{}", read + 1));
  }
  return rules;
}

// Arguments of any names. A name has no white space around it, which the parser would take off.
std::string FreeRules() {
  return fmt::format("free ::= {} | {} [^< \\t\\r\\n] freekey {} raw free\nfreekey ::= \"\" | [^<] freekey\n",
                     Literal(kGlmCallClose), Literal(kGlmKeyOpen), Literal(kGlmKeyClose, kGlmValueOpen));
}

std::string ByType(const ArgumentTypes& types) {
  std::vector<std::string> kinds;
  if (types.object) kinds.emplace_back("object");
  if (types.array) kinds.emplace_back("array");
  if (types.number) kinds.emplace_back("number");
  if (types.integer && !types.number) kinds.emplace_back("integer");
  if (types.boolean) kinds.emplace_back("\"true\" | \"false\"");
  if (types.null) kinds.emplace_back("\"null\"");
  return fmt::format("({})", fmt::join(kinds, " | "));
}

// The strings of `enum` or `const`; empty: it has none, or others too.
std::vector<std::string> OnlyStrings(const Json& schema) {
  std::vector<std::string> strings;
  if (!schema.is_object()) return strings;
  const Json values =
      schema.contains("const") ? Json::array({schema["const"]}) : schema.value("enum", Json());
  if (!values.is_array()) return strings;
  for (const Json& value : values) {
    if (!value.is_string()) return {};
    strings.push_back(value);
  }
  return strings;
}

class CallRules {
 public:
  // The rule `name` of a call of `function`, with the rules it needs.
  std::string Make(const std::string& name, const Json& function, bool free) {
    const std::string begin = Literal(kGlmCallOpen, function["name"].get<std::string>());
    const Json parameters = function.value("parameters", Json::object());
    const Json properties = parameters.is_object() ? parameters.value("properties", Json()) : Json();
    const bool none = !properties.is_object() || properties.empty();
    const bool others = parameters.is_object() && parameters.contains("additionalProperties") &&
                        parameters["additionalProperties"] != false;
    if (free || (none && others)) return fmt::format("{} ::= {} free\n", name, begin);
    if (none) return fmt::format("{} ::= {} {}\n", name, begin, Literal(kGlmCallClose));
    std::set<std::string> required;
    if (parameters.contains("required") && parameters["required"].is_array()) {
      for (const Json& one : parameters["required"]) {
        if (one.is_string()) required.insert(one);
      }
    }
    const std::string schema = parameters.dump();
    std::string rules = fmt::format("{} ::= {} {}a0\n", name, begin, name);
    std::size_t at = 0;
    for (const auto& [key, property] : properties.items()) {
      const std::string rest = fmt::format("{}a{}", name, at + 1);
      const std::string value =
          Value(fmt::format("{}v{}", name, at), schema, parameters, key, property, rules);
      rules += fmt::format("{}a{} ::= {} {} {}{}\n", name, at,
                           Literal(kGlmKeyOpen, key, kGlmKeyClose, kGlmValueOpen), value, rest,
                           required.contains(key) ? "" : " | " + rest);
      ++at;
    }
    return rules + fmt::format("{}a{} ::= {}\n", name, at, Literal(kGlmCallClose));
  }

 private:
  // What a value and its closing mark are; rules that it needs go to `rules`.
  static std::string Value(const std::string& name, const std::string& schema, const Json& parameters,
                           const std::string& key, const Json& property, std::string& rules) {
    const std::string place = (Json::json_pointer("/properties") / key).to_string();
    const ArgumentTypes types = TypesAt(parameters, place);
    if (types.string || !types.any()) {
      const std::vector<std::string> strings = OnlyStrings(property);
      if (strings.empty() || strings.size() > static_cast<std::size_t>(kMaxSchemaEnumValues)) return "raw";
      std::vector<std::string> literals;
      for (const std::string& one : strings) literals.push_back(Literal(one, kGlmValueClose));
      return fmt::format("({})", fmt::join(literals, " | "));
    }
    try {
      rules += JsonSchemaRulesAt(name, schema, place);
      return name + " " + Literal(kGlmValueClose);
    } catch (const Error& error) {
      // A keyword that is not understood: of the demand for a call it is not worth a refusal.
      if (error.kind() != ErrorKind::kBadRequest) throw;
    }
    return ByType(types) + " " + Literal(kGlmValueClose);
  }
};

}  // namespace

std::string Glm47CallRules(std::span<const std::string> functions, std::span<const std::string> names,
                           bool one) {
  std::size_t bytes = 0;
  std::size_t arguments = 0;
  std::vector<Json> called;
  for (const std::string& text : functions) {
    Json function = Json::parse(text, nullptr, false);
    if (!function.is_object() || !function.contains("name") || !function["name"].is_string() ||
        std::ranges::find(names, function["name"].get<std::string>()) == names.end()) {
      continue;
    }
    bytes += text.size();
    const Json parameters = function.value("parameters", Json());
    if (parameters.is_object()) arguments += parameters.value("properties", Json()).size();
    called.push_back(std::move(function));
  }
  SLUICE_CHECK(!called.empty(), "a call is demanded of none of the functions");
  const bool free = bytes > kMaxSchemaBytes || arguments > static_cast<std::size_t>(kMaxSchemaNodes);
  std::string rules = one ? "root ::= call\n" : "root ::= call more\nmore ::= \"\" | call more\n";
  std::vector<std::string> tools;
  std::string bodies;
  for (const Json& function : called) {
    tools.push_back(fmt::format("t{}", tools.size()));
    bodies += CallRules().Make(tools.back(), function, free);
  }
  rules += fmt::format("call ::= {}\n", fmt::join(tools, " | "));
  return rules + bodies + RawRules() + FreeRules() + SharedJsonRules(kGlmValueClose);
}

}  // namespace sluice::text
