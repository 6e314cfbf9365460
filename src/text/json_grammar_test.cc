#include "text/json_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <functional>
#include <optional>
#include <string>

#include "text/grammar_test_support.h"
#include "text/random_schema.h"

namespace sluice::text {
namespace {

using Json = nlohmann::json;

// The text as JSON, read by simdjson (strict: UTF-8, surrogates, numbers) and by nlohmann.
std::optional<Json> Parsed(const std::string& text) {
  simdjson::dom::parser parser;
  if (parser.parse(text).error() != simdjson::SUCCESS) return std::nullopt;
  Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() ? std::nullopt : std::optional(std::move(value));
}

TEST(JsonGrammar, RandomAnswersToRandomSchemasAreValid) {
  GrammarWorld world;
  RandomJson random(21);
  int whole = 0;
  int broken = 0;
  int compared = 0;
  for (int round = 0; round < 250; ++round) {
    const Json schema = random.Schema(3);
    const auto grammar = world.compiler().JsonSchema(schema.dump());
    for (int i = 0; i < 4; ++i) {
      GrammarWorld::Answer answer = world.Sample(grammar, random.engine, 300);
      if (!answer.whole) continue;
      ++whole;
      const auto value = Parsed(answer.text);
      ASSERT_TRUE(value.has_value()) << answer.text << " of " << schema;
      ASSERT_TRUE(IsValid(schema, schema, *value)) << answer.text << " of " << schema;
      ASSERT_TRUE(world.Takes(grammar, answer.text)) << answer.text << " of " << schema;
      // One byte changed, gone or more: either it is still valid or the grammar does not take it.
      for (int change = 0; change < 12 && !answer.text.empty(); ++change) {
        std::string other = answer.text;
        const auto at = static_cast<size_t>(random.Below(std::ssize(other)));
        const char byte = "\"{}[],:01- \\ax\x01\x80"[random.Below(17)];
        switch (random.Below(3)) {
          case 0:
            other[at] = byte;
            break;
          case 1:
            other.erase(at, 1);
            break;
          default:
            other.insert(at, 1, byte);
        }
        const auto changed = Parsed(other);
        const bool valid = changed.has_value() && IsValid(schema, schema, *changed);
        if (!valid) ++broken;
        if (world.Takes(grammar, other)) {
          ++compared;
          ASSERT_TRUE(valid) << other << " of " << schema;
        }
      }
    }
  }
  EXPECT_GT(whole, 400);
  EXPECT_GT(broken, 2000);
  EXPECT_GT(compared, 200);
}

// The other way round: what a client would write is taken.
TEST(JsonGrammar, ValuesThatAreValidAreTaken) {
  GrammarWorld world;
  RandomJson random(22);
  int taken = 0;
  for (int round = 0; round < 400; ++round) {
    const Json schema = random.Schema(2);
    const auto grammar = world.compiler().JsonSchema(schema.dump());
    for (int i = 0; i < 60; ++i) {
      const Json value = random.Value(2);
      if (!IsValid(schema, schema, value)) continue;
      // Members that no property names are valid and are not written.
      if (schema.dump().find("properties") != std::string::npos) continue;
      ASSERT_TRUE(world.Takes(grammar, value.dump())) << value << " of " << schema;
      ++taken;
    }
  }
  EXPECT_GT(taken, 1000);
}

TEST(JsonGrammar, MembersComeInOrderAndOptionalOnesMayBeLeftOut) {
  GrammarWorld world;
  const auto takes = [&](const std::string& schema, const std::string& text) {
    return world.Takes(world.compiler().JsonSchema(schema), text);
  };
  const std::string schema =
      R"({"type":"object","properties":{"z":{"type":"null"},"é\"":{"type":"null"},"b":{"type":"null"}},"required":["é\""]})";
  EXPECT_TRUE(takes(schema, R"({"z":null,"é\"":null,"b":null})"));
  EXPECT_TRUE(takes(schema, R"({"é\"":null,"b":null})"));
  EXPECT_TRUE(takes(schema, R"({"é\"":null})"));
  EXPECT_TRUE(takes(schema, "{ \"z\": null,\n  \"é\\\"\" : null }"));
  EXPECT_FALSE(takes(schema, R"({"z":null})"));
  EXPECT_FALSE(takes(schema, R"({})"));
  EXPECT_FALSE(takes(schema, R"({"é\"":null,"z":null})"));
  EXPECT_FALSE(takes(schema, R"({"é\"":null,"é\"":null})"));
  EXPECT_FALSE(takes(schema, R"({"é\"":null,"other":null})"));
  EXPECT_FALSE(takes(schema, R"({"é\"":null,})"));
  EXPECT_FALSE(takes(schema, "{\n\n\"é\\\"\":null}")) << "white space is bounded";
  EXPECT_TRUE(takes(R"({"properties":{"a":{}}})", R"({"a":[{"x":1e5}]})"))
      << "properties alone mean an object";
  EXPECT_TRUE(takes(R"({"required":["k"]})", R"({"k":-0.5})"));
  EXPECT_FALSE(takes(R"({"required":["k"]})", R"({})"));
  EXPECT_TRUE(takes(R"({"type":"object"})", R"({"any":{"thing":[]}})"));
  EXPECT_FALSE(takes(R"({"type":"object","additionalProperties":false})", R"({"a":1})"));
  EXPECT_FALSE(takes(R"({"type":"string"})", R"("\ud800")")) << "half of a pair";
  EXPECT_TRUE(takes(R"({"type":"string"})", R"("\ud83d\udca1")"));
}

TEST(JsonGrammar, SchemasMayReferToTheirParts) {
  GrammarWorld world;
  const auto tree = world.compiler().JsonSchema(
      R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},
          "next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"]}}})");
  EXPECT_TRUE(world.Takes(tree, R"({"v":1,"next":{"v":2,"next":null}})"));
  EXPECT_FALSE(world.Takes(tree, R"({"v":1,"next":{"v":2}})"));
  const auto list = world.compiler().JsonSchema(R"({"type":"array","items":{"$ref":"#"}})");
  EXPECT_TRUE(world.Takes(list, "[[],[[]]]"));
  EXPECT_FALSE(world.Takes(list, "[1]"));
}

TEST(JsonGrammar, AJsonObjectIsAnyObject) {
  GrammarWorld world;
  RandomJson random(23);
  const auto grammar = world.compiler().JsonObject();
  EXPECT_TRUE(world.Takes(grammar, R"({"a":[1,{"b":"é"}],"c":null})"));
  EXPECT_FALSE(world.Takes(grammar, "[]"));
  int whole = 0;
  for (int i = 0; i < 300; ++i) {
    const auto answer = world.Sample(grammar, random.engine, 200);
    if (!answer.whole) continue;
    ++whole;
    const auto value = Parsed(answer.text);
    ASSERT_TRUE(value.has_value() && value->is_object()) << answer.text;
  }
  EXPECT_GT(whole, 100);
}

TEST(JsonGrammar, WhatIsNotSupportedIsRefusedByName) {
  const auto refused = [](std::string_view schema, std::string_view says) {
    EXPECT_THAT(Refusal(ErrorKind::kBadRequest, [&] { JsonSchemaRules(schema); }), testing::HasSubstr(says))
        << schema;
  };
  for (const std::string keyword : {"pattern",
                                    "format",
                                    "minLength",
                                    "maxLength",
                                    "minimum",
                                    "maximum",
                                    "exclusiveMinimum",
                                    "multipleOf",
                                    "uniqueItems",
                                    "contains",
                                    "prefixItems",
                                    "patternProperties",
                                    "propertyNames",
                                    "minProperties",
                                    "not",
                                    "if",
                                    "oneOf",
                                    "dependentRequired",
                                    "unevaluatedProperties",
                                    "nonsense"}) {
    refused(R"({"type":"object","properties":{"a":{"type":"string",")" + keyword + R"(":true}}})",
            "the schema at \"#/properties/a\" has the keyword \"" + keyword + "\", which is not supported");
  }
  refused("{", "is not JSON");
  refused("\"x\"", "is string; a schema is an object");
  refused("false", "which no value fulfils");
  refused(R"({"type":"objekt"})", "none of object, array");
  refused(R"({"type":[]})", "none of object, array");
  refused(R"({"type":7})", "none of object, array");
  refused(R"({"enum":[]})", "no list of values");
  refused(R"({"enum":[1,2],"type":"string"})", "no value in \"enum\" that is of its \"type\"");
  refused(R"({"enum":["a"],"items":{}})", "has \"items\" beside \"enum\"");
  refused(R"({"anyOf":[{}],"type":"string"})", "has \"type\" beside \"anyOf\"");
  refused(R"({"anyOf":[]})", "no list of schemas");
  refused(R"({"allOf":[{},{}]})", "one is supported");
  refused(R"({"$ref":"http://example.com/x"})", "does not lie in the schema");
  refused(R"({"$ref":"#/a~x"})", "a place that is not there");
  refused(R"({"$ref":"#/$defs/x"})", "a place that is not there");
  refused(R"({"$ref":"#"})", "refers to itself");
  refused(R"({"anyOf":[{"type":"null"},{"$ref":"#"}]})", "refers to itself");
  refused(R"({"type":"array","minItems":3,"maxItems":2})", "\"minItems\" 3 above \"maxItems\" 2");
  refused(R"({"type":"array","maxItems":257})", "no whole number from 0 to 256");
  refused(R"({"type":"array","minItems":-1})", "no whole number from 0 to 256");
  refused(R"({"type":"array","minItems":1.5})", "no whole number from 0 to 256");
  refused(R"({"required":["a"],"additionalProperties":false})", "forbids");
  refused(R"({"required":"a"})", "no list of names");
  refused(R"({"properties":[]})", "\"properties\" that are no object");
  std::string deep = "{}";
  for (int i = 0; i < 40; ++i) deep = R"({"items":)" + deep + "}";
  refused(deep, "more than 32 schemas deep");
  refused("[" + std::string(70'000, ' ') + "]", "at most 65536 are taken");
  Json wide;
  for (int i = 0; i < 1001; ++i) wide["properties"][std::to_string(i)] = true;
  refused(wide.dump(), "more than 1000 schemas inside");
  Json values;
  for (int i = 0; i < 1001; ++i) values["enum"].push_back(i);
  refused(values.dump(), "more than 1000");
}

TEST(JsonGrammar, NoSchemaDoesMoreThanBeRefused) {
  GrammarWorld world;
  RandomJson random(24);
  const char* const keywords[] = {"type",
                                  "properties",
                                  "required",
                                  "items",
                                  "enum",
                                  "const",
                                  "anyOf",
                                  "allOf",
                                  "$ref",
                                  "minItems",
                                  "maxItems",
                                  "maxLength",
                                  "additionalProperties",
                                  "$defs",
                                  "title",
                                  "pattern"};
  const std::function<Json(int)> any = [&](int depth) -> Json {
    if (depth == 0 || random.OneIn(4)) {
      static const char* const kWords[] = {"string",  "object",         "array", "#",
                                           "#/items", "#/properties/a", "a"};
      return random.OneIn(2) ? Json(kWords[random.Below(7)]) : random.Value(1);
    }
    if (random.OneIn(4)) return Json::array({any(depth - 1), any(depth - 1)});
    Json object = Json::object();
    for (int64_t n = random.Below(4); n > 0; --n) {
      object[random.OneIn(5) ? "a" : keywords[random.Below(std::size(keywords))]] = any(depth - 1);
    }
    return object;
  };
  int taken = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string schema = any(4).dump();
    if (random.OneIn(5))
      schema[static_cast<size_t>(random.Below(std::ssize(schema)))] = static_cast<char>(random.Below(256));
    try {
      const std::string rules = JsonSchemaRules(schema);
      if (++taken % 20 == 0) world.compiler().JsonSchema(schema);
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::kBadRequest) << schema << ": " << error.what();
    }
  }
  EXPECT_GT(taken, 500);
}

}  // namespace
}  // namespace sluice::text
