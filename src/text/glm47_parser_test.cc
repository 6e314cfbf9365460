#include "text/glm47_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/answer_test_support.h"
#include "text/chat_glm5.h"
#include "text/glm_call_text.h"
#include "text/python_json.h"
#include "text/test_support.h"

namespace sluice::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kFunction = R"({"name": "f", "parameters": {"type": "object",
  "properties": {
    "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"},
    "o": {"type": "object"}, "l": {"items": {"type": "string"}}, "p": {"properties": {"x": {}}},
    "sn": {"type": ["string", "null"]}, "ns": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    "is": {"oneOf": [{"type": "integer"}, {"type": "string"}]}, "e": {"enum": ["1", "2"]},
    "en": {"enum": [1, 2]}, "c": {"const": true}, "r": {"$ref": "#/$defs/t"}, "any": {},
    "all": {"allOf": [{"description": "d"}, {"type": "string"}]}, "loop": {"$ref": "#/properties/loop"},
    "gone": {"$ref": "#/$defs/none"}},
  "additionalProperties": {"type": "string"}, "$defs": {"t": {"type": "string"}}}})";

AnswerFormat Format(bool thinking = false) {
  return {.begins_in_reasoning = thinking,
          .tool_calls = true,
          .markup = CallMarkup::kGlm47,
          .functions = {kFunction, R"({"name": "g"})"}};
}

// The arguments of one call of f with one argument.
std::string Typed(const std::string& key, const std::string& value) {
  const auto parsed = Parse(Format(), GlmCall("f", GlmArgument(key, value)));
  EXPECT_EQ(parsed.piece.calls.size(), 1U) << key << value;
  if (parsed.piece.calls.empty()) return "";
  const std::string& arguments = parsed.piece.calls[0].arguments;
  EXPECT_TRUE(IsJsonObject(arguments)) << arguments;
  const std::string begin = fmt::format("{{\"{}\": ", key);
  EXPECT_TRUE(arguments.starts_with(begin)) << arguments;
  return arguments.substr(begin.size(), arguments.size() - begin.size() - 1);
}

TEST(Glm47Parser, ValuesHaveTheTypesOfTheSchema) {
  // A string is a string, whatever it looks like.
  for (const char* key : {"s", "e", "r", "all", "is", "other"}) {
    EXPECT_EQ(Typed(key, "42"), "\"42\"") << key;
    EXPECT_EQ(Typed(key, "true"), "\"true\"") << key;
    EXPECT_EQ(Typed(key, R"({"a": 1})"), R"("{\"a\": 1}")") << key;
  }
  EXPECT_EQ(Typed("s", " two\n\"lines\"\t\\ <b>中 "), R"(" two\n\"lines\"\t\\ <b>中 ")");
  EXPECT_EQ(Typed("s", ""), "\"\"");
  EXPECT_EQ(Typed("s", "null"), "\"null\"");
  EXPECT_EQ(Typed("sn", "null"), "null");
  EXPECT_EQ(Typed("sn", "7"), "\"7\"");
  // Others are JSON.
  EXPECT_EQ(Typed("i", "42"), "42");
  EXPECT_EQ(Typed("i", " -7 "), "-7");
  EXPECT_EQ(Typed("n", "1.50e3"), "1.50e3");
  EXPECT_EQ(Typed("b", "true"), "true");
  EXPECT_EQ(Typed("b", "True"), "true");
  EXPECT_EQ(Typed("c", "False"), "false");
  EXPECT_EQ(Typed("ns", "None"), "null");
  EXPECT_EQ(Typed("ns", "3"), "3");
  EXPECT_EQ(Typed("en", "2"), "2");
  EXPECT_EQ(Typed("o", R"({"a": ["</b>", 1e3, null]})"), R"({"a": ["</b>", 1e3, null]})");
  EXPECT_EQ(Typed("l", "[1,\n \"x\"]"), "[1,\n \"x\"]");
  EXPECT_EQ(Typed("p", "{}"), "{}");
  // And strings where they are not.
  EXPECT_EQ(Typed("i", "many"), "\"many\"");
  EXPECT_EQ(Typed("o", "{'a': 1}"), "\"{'a': 1}\"");
  EXPECT_EQ(Typed("b", ""), "\"\"");
  // What the schema says nothing of is what it looks like.
  for (const char* key : {"any", "loop", "gone"}) {
    EXPECT_EQ(Typed(key, "42"), "42") << key;
    EXPECT_EQ(Typed(key, "word"), "\"word\"") << key;
    EXPECT_EQ(Typed(key, "\"word\""), R"("\"word\"")") << key;
    EXPECT_EQ(Typed(key, "True"), "\"True\"") << key;
  }
}

TEST(Glm47Parser, CallsAndWhatStandsAroundThem) {
  const auto parsed =
      Parse(Format(true),
            "why</think>On it." + GlmCall("f", GlmArgument("s", "x") + GlmArgument("i", "1")) + GlmCall("g"));
  EXPECT_EQ(parsed.piece.reasoning, "why");
  EXPECT_EQ(parsed.piece.content, "On it.");
  EXPECT_THAT(parsed.piece.calls, ElementsAre(ToolCall{"f", R"({"s": "x", "i": 1})"}, ToolCall{"g", "{}"}));
  EXPECT_EQ(parsed.fault, "");
}

// What an assistant's calls are written as is read as the same calls.
TEST(Glm47Parser, ReadsBackWhatTheTemplateWrites) {
  const std::vector<ToolCall> calls = {
      {"f",
       R"({"s": "a \"b\" <c> & 中文\n", "i": 5, "o": {"l": ["d", 1.5]}, "b": true, "ns": null, "is": "1", "l": []})"},
      {"g", "{}"}};
  EXPECT_EQ(Parse(Format(), Glm5Calls(calls, "")).piece.calls, calls);
}

TEST(Glm47Parser, WhiteSpaceIsFree) {
  const auto parsed =
      Parse(Format(),
            "a \n\n<tool_call> f\n<arg_key> s </arg_key>\\n \n<arg_value>v</arg_value>\n</tool_call>\n\n" +
                GlmCall("\ng\n") + "\n");
  EXPECT_EQ(parsed.piece.content, "a");
  EXPECT_THAT(parsed.piece.calls, ElementsAre(ToolCall{"f", R"({"s": "v"})"}, ToolCall{"g", "{}"}));
  EXPECT_EQ(parsed.fault, "");
}

TEST(Glm47Parser, ACallEndsTheReasoningThatItStandsIn) {
  const auto parsed = Parse(Format(true), "I need it" + GlmCall("g"));
  EXPECT_EQ(parsed.piece.reasoning, "I need it");
  EXPECT_THAT(parsed.piece.calls, ElementsAre(ToolCall{"g", "{}"}));
  EXPECT_EQ(parsed.fault, "");
  // A mark that comes too late is no text.
  const auto late =
      Parse(Format(true), "why" + GlmCall("g") + "\n</think>\n" + GlmCall("f", GlmArgument("s", "</think>")));
  EXPECT_EQ(late.piece.content, "");
  EXPECT_THAT(late.piece.calls, ElementsAre(ToolCall{"g", "{}"}, ToolCall{"f", R"({"s": "</think>"})"}));
  EXPECT_EQ(Parse(Format(true), "why" + GlmCall("g") + "</think>so</think>").piece.content, "so</think>");
  // Where calls are not read, they are part of it.
  const auto unread =
      Parse({.begins_in_reasoning = true, .markup = CallMarkup::kGlm47}, "a" + GlmCall("g") + "</think>b");
  EXPECT_EQ(unread.piece.reasoning, "a" + GlmCall("g"));
  EXPECT_EQ(unread.piece.content, "b");
}

TEST(Glm47Parser, BrokenMarkupIsContentAsItStands) {
  const std::vector<std::pair<std::string, std::string>> broken = {
      {"<tool_call>", "ends inside a tool call"},
      {"<tool_call>f", "ends inside a tool call"},
      {"<tool_call>f" + GlmArgument("s", "x"), "ends inside a tool call"},
      {"<tool_call>f" + GlmArgument("s", "x") + "</tool_cal", "ends inside a tool call"},
      {GlmCall(""), "has no name"},
      {GlmCall("\n", GlmArgument("s", "x")), "has no name"},
      {GlmCall("f<b>"), "something else than arguments"},
      {GlmCall("f", GlmArgument("s", "x") + "y"), "something else than arguments"},
      {GlmCall("f", GlmArgument("s", "x") + GlmArgument("s", "y")), "is there twice"},
      {GlmCall("f", GlmArgument(" ", "x")), "is empty"},
      {GlmCall("f", "<arg_key>s</arg_key>x"), "has no value"},
      {GlmCall("f", "<arg_key>s</arg_key>\\"), "has no value"},
      {GlmCall(std::string(300, 'f')), "too long"},
      {"<tool_call><tool_call>f</tool_call>", "something else than arguments"},
  };
  for (const auto& [text, fault] : broken) {
    const auto parsed = Parse(Format(), "Text.\n " + text);
    EXPECT_EQ(parsed.piece.content, "Text.\n " + text);
    EXPECT_THAT(parsed.piece.calls, IsEmpty());
    EXPECT_THAT(parsed.fault, HasSubstr(fault)) << text;
  }
  // A complete call stays; content is the rest.
  const auto half = Parse(Format(), GlmCall("g") + "\n<tool_call>f<arg_key>");
  EXPECT_THAT(half.piece.calls, ElementsAre(ToolCall{"g", "{}"}));
  EXPECT_EQ(half.piece.content, "\n<tool_call>f<arg_key>");
  const auto after = Parse(Format(), GlmCall("g") + "\ndone ");
  EXPECT_EQ(after.piece.content, "\ndone ");
  EXPECT_EQ(after.fault, "there is text after the tool calls");
}

TEST(Glm47Parser, OnlyOfferedToolsAreCalled) {
  AnswerFormat format = Format();
  format.tool_names = {"run", "run_in_terminal"};
  // A name is taken whole, also when another one is its beginning.
  EXPECT_THAT(Parse(format, GlmCall("run_in_terminal")).piece.calls,
              ElementsAre(ToolCall{"run_in_terminal", "{}"}));
  EXPECT_THAT(Parse(format, GlmCall("run")).piece.calls, ElementsAre(ToolCall{"run", "{}"}));
  for (const char* name : {"run_in", "running", "walk"}) {
    const auto other = Parse(format, GlmCall(name));
    EXPECT_THAT(other.piece.calls, IsEmpty());
    EXPECT_EQ(other.piece.content, GlmCall(name));
    EXPECT_EQ(other.fault, "a tool that was not offered is called");
  }
}

TEST(Glm47Parser, HoldsBackWhatMayBeMarkupAndNothingElse) {
  AnswerFormat format = Format(true);
  format.tool_names = {"get_weather"};
  AnswerParser parser(format);
  const auto pushed = [&](const char* text) {
    const AnswerPiece piece = parser.Push(text);
    std::string shown = fmt::format("{}|{}", piece.reasoning, piece.content);
    for (const ToolCall& call : piece.calls) shown += "|" + call.name + call.arguments;
    return shown;
  };
  EXPECT_EQ(pushed("a</"), "a|");
  EXPECT_EQ(pushed("t><t"), "</t>|");
  EXPECT_EQ(pushed("<"), "<t|");
  EXPECT_EQ(pushed("/think>b "), "|b");
  EXPECT_EQ(pushed("c<tool"), "| c");
  EXPECT_EQ(pushed("s>"), "|<tools>");
  // A name over several tokens is let out with its call, and one that is no tool's at once.
  EXPECT_EQ(pushed("\n<tool_call>get_"), "|");
  EXPECT_EQ(pushed("wea"), "|");
  EXPECT_EQ(pushed("ther</tool_call"), "|");
  EXPECT_EQ(pushed(">"), "||get_weather{}");
  EXPECT_EQ(pushed("<tool_call>get_t"), "|<tool_call>get_t");
}

TEST(Glm47Parser, TheMarksThatMeanSomething) {
  AnswerParser parser(Format(true));
  EXPECT_TRUE(parser.IsMark("</think>"));
  EXPECT_TRUE(parser.IsMark("<tool_call>"));
  EXPECT_FALSE(parser.IsMark("<|user|>"));
  parser.Push("</think>");
  EXPECT_FALSE(parser.IsMark("</think>"));
  EXPECT_TRUE(parser.IsMark("</arg_value>"));
  EXPECT_FALSE(AnswerParser({.markup = CallMarkup::kGlm47}).IsMark("<tool_call>"));
}

TEST(Glm47Parser, AnyCutGivesTheSameAnswer) {
  const std::vector<std::string> parts = {
      "text ",
      "\n",
      " ",
      "<",
      "</",
      "\\n",
      "\\",
      "中",
      "<think>",
      "</think>",
      "f",
      "g",
      "<tool_call>",
      "</tool_call>",
      "<tool_call>f",
      "<arg_key>",
      "</arg_key>",
      "<arg_value>",
      "</arg_value>",
      "<arg_key>s</arg_key>",
      GlmArgument("s", "v</arg_x"),
      GlmArgument("i", "1"),
      GlmArgument("o", "{\"a\": [1]}"),
      GlmCall("g"),
      GlmCall("f", GlmArgument("s", "one\n\n<tool_call>two")),
      GlmCall("f", GlmArgument("b", "true") + "\n" + GlmArgument("any", "x"))};
  ExpectAnyCutGivesTheSameAnswer(20261129, parts, [](std::mt19937_64& random) {
    AnswerFormat format = Format(random() % 2 == 0);
    format.tool_calls = random() % 8 != 0;
    if (random() % 4 == 0) format.tool_names = {"g"};
    return format;
  });
}

}  // namespace
}  // namespace sluice::text
