#include "text/answer_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/answer_test_support.h"
#include "text/chat_deepseek_v32.h"
#include "text/deepseek_v32_texts.h"
#include "text/test_support.h"

namespace sluice::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const AnswerFormat kCalls = {.tool_calls = true};
const AnswerFormat kThinkingCalls = {.begins_in_reasoning = true, .tool_calls = true};

std::string Block(const std::string& inside) {
  return fmt::format("\n\n{}\n{}\n{}", kCallsOpen, inside, kCallsClose);
}
std::string Invoke(const std::string& name, const std::string& inside) {
  return fmt::format("{} name=\"{}\">\n{}\n{}", kInvokeOpen, name, inside, kInvokeClose);
}
std::string Parameter(const std::string& key, const std::string& is_string, const std::string& value) {
  return fmt::format("{} name=\"{}\" string=\"{}\">{}{}", kParameterOpen, key, is_string, value,
                     kParameterClose);
}

TEST(AnswerParser, CallsAndWhatStandsAroundThem) {
  const auto parsed = Parse(
      kThinkingCalls, "why</think>On it." + Block(Invoke("f", Parameter("a", "true", " x\n\"y\" ") + "\n" +
                                                                  Parameter("b", "false", " [1, 2] ")) +
                                                  "\n" + Invoke("g", "")));
  EXPECT_EQ(parsed.piece.reasoning, "why");
  EXPECT_EQ(parsed.piece.content, "On it.");
  EXPECT_THAT(parsed.piece.calls,
              ElementsAre(ToolCall{"f", R"({"a": " x\n\"y\" ", "b": [1, 2]})"}, ToolCall{"g", "{}"}));
  EXPECT_EQ(parsed.fault, "");
}

// What an assistant's calls are written as is read as the same calls.
TEST(AnswerParser, ReadsBackWhatTheEncoderWrites) {
  const std::vector<ToolCall> calls = {
      {"search", R"({"q": "a \"b\" <c> & 中文\n", "n": 5, "o": {"l": ["d", 1.5]}, "e": true, "z": null})"},
      {"now", "{}"}};
  EXPECT_EQ(Parse(kCalls, "\n\n" + DeepSeekV32Calls(calls, "")).piece.calls, calls);
}

TEST(AnswerParser, FormsBesideTheOfficialOne) {
  const ToolCall call = {"f", R"({"a": 1})"};
  const std::string invoke = Invoke("f", Parameter("a", "false", "1"));
  const std::vector<std::string> texts = {
      "\n\n<｜DSML｜tool_calls>\n" + invoke + "\n</｜DSML｜tool_calls>",
      invoke,                                                  // without a block
      fmt::format("{}{}{}", kCallsOpen, invoke, kCallsClose),  // without white space
      Block(Invoke("f", R"({"a": 1})")),                       // a JSON body
      Block("<｜DSML｜invoke\n name=\"f\" >\n<｜DSML｜parameter string=\"false\"\tname=\"a\">1" +
            std::string(kParameterClose) + " " + std::string(kInvokeClose)),
      Block(invoke) + " \n",
  };
  for (const std::string& text : texts) {
    const auto parsed = Parse(kCalls, text);
    EXPECT_THAT(parsed.piece.calls, ElementsAre(call)) << text;
    EXPECT_EQ(parsed.piece.content, "") << text;
    EXPECT_EQ(parsed.fault, "") << text;
  }
  EXPECT_THAT(Parse(kCalls, "<｜DSML｜invoke name=\"f\"/>").piece.calls, ElementsAre(ToolCall{"f", "{}"}));
  EXPECT_THAT(Parse(kCalls, Block(Invoke("f", Parameter("a", "false", "Oslo")))).piece.calls,
              ElementsAre(ToolCall{"f", R"({"a": "Oslo"})"}));
  const auto two = Parse(kCalls, fmt::format("x{}\n{}", Block(invoke), Block(invoke)));
  EXPECT_THAT(two.piece.calls, ElementsAre(call, call));
  EXPECT_EQ(two.piece.content, "x");
}

TEST(AnswerParser, BrokenMarkupIsContentAsItStands) {
  const std::string good = Invoke("f", "");
  const std::vector<std::pair<std::string, std::string>> broken = {
      {Block("x") + " more", "something else than calls"},
      {Block(""), "is empty"},
      {Block("<｜DSML｜invoke>"), "an invoke tag"},
      {Block("<｜DSML｜invoke name=\"\">"), "an invoke tag"},
      {Block("<｜DSML｜invoke name=\"f\" name=\"g\">"), "an invoke tag"},
      {Block("<｜DSML｜invoke name=\"f\"string=\"true\">"), "an invoke tag"},
      {Block("<｜DSML｜invoke nam=\"f\">"), "an invoke tag"},
      {Block(Invoke("f", "x")), "something else than parameters"},
      {Block(Invoke("f", "{\"a\"}")), "no JSON object"},
      {Block(Invoke("f", Parameter("a", "yes", "1"))), "a parameter tag"},
      {Block(Invoke("f", Parameter("a", "true", "1") + Parameter("a", "true", "2"))), "is there twice"},
      {"\n\n" + std::string(kCallsOpen) + "\n" + good.substr(0, good.size() - 1), "ends inside a tool call"},
      {"\n\n" + std::string(kCallsOpen), "ends inside a tool call"},
  };
  for (const auto& [text, fault] : broken) {
    const auto parsed = Parse(kCalls, "Text." + text);
    EXPECT_EQ(parsed.piece.content, "Text." + text);
    EXPECT_THAT(parsed.piece.calls, IsEmpty());
    EXPECT_THAT(parsed.fault, HasSubstr(fault));
  }
  // A complete call stays; content is the rest.
  const auto half = Parse(kCalls, fmt::format("{}{}\n{} name=", kCallsOpen, good, kInvokeOpen));
  EXPECT_THAT(half.piece.calls, ElementsAre(ToolCall{"f", "{}"}));
  EXPECT_EQ(half.piece.content, fmt::format("\n{} name=", kInvokeOpen));
}

TEST(AnswerParser, OnlyOfferedToolsAreCalled) {
  const AnswerFormat format = {.tool_calls = true, .tool_names = {"g", "f"}};
  EXPECT_EQ(Parse(format, Block(Invoke("f", ""))).piece.calls.size(), 1U);
  const auto other = Parse(format, Block(Invoke("h", "")));
  EXPECT_THAT(other.piece.calls, IsEmpty());
  EXPECT_EQ(other.piece.content, Block(Invoke("h", "")));
  EXPECT_EQ(other.fault, "the tool \"h\" was not offered");
}

TEST(AnswerParser, TheBeginningMayStandInThePrompt) {
  const std::string text = Block(Invoke("f", Parameter("a", "true", "x")));
  const std::size_t cut = text.find("name=");
  const AnswerFormat format = {.tool_calls = true, .written = text.substr(0, cut)};
  EXPECT_EQ(Parse(format, text.substr(cut)), Parse(kCalls, text));
  // A model that does not go on with it: nothing is lost, nothing is called.
  EXPECT_EQ(Parse(format, "no").piece.content, text.substr(0, cut) + "no");
}

TEST(AnswerParser, WithoutCallsMarkupIsContent) {
  const std::string text = fmt::format("a</think>b{}", Block(Invoke("f", "")));
  EXPECT_EQ(Parse({}, text).piece.content, text);
}

TEST(AnswerParser, HoldsBackWhatMayBeMarkupAndNothingElse) {
  AnswerParser parser(kThinkingCalls);
  const auto pushed = [&](const char* text) {
    const AnswerPiece piece = parser.Push(text);
    return fmt::format("{}|{}", piece.reasoning, piece.content);
  };
  EXPECT_EQ(pushed("<thi"), "|");
  EXPECT_EQ(pushed("s"), "<this|");
  EXPECT_EQ(pushed(" a</"), " a|");
  EXPECT_EQ(pushed("b</think"), "</b|");
  EXPECT_EQ(pushed(">c\n"), "|c");
  EXPECT_EQ(pushed("d < e"), "|\nd < e");
  EXPECT_EQ(pushed("\n\n<"), "|");
  EXPECT_EQ(pushed("p>"), "|\n\n<p>");
  EXPECT_EQ(pushed("\n\n\n"), "|\n");
  EXPECT_EQ(pushed("<｜DSML｜function_calls"), "|");
  EXPECT_EQ(pushed("?"), "|\n\n<｜DSML｜function_calls?");
  EXPECT_EQ(pushed("<｜DSML｜param"), "|<｜DSML｜param");
}

// The completions of a widely used copy of the official encoder, whose parser is strict: where it has an
// error, the answer is cut off or this parser finds a fault.
TEST(AnswerParser, EqualsTheRecordedCompletions) {
  if (!std::filesystem::exists(EncodingCases())) GTEST_SKIP() << EncodingCases() << " is not there";
  const auto cases = nlohmann::json::parse(ReadWhole(EncodingCases()));
  int compared = 0;
  int refused = 0;
  for (const auto& recorded : cases["parse"]) {
    SCOPED_TRACE(recorded["name"]);
    std::string text = recorded["completion"];
    const bool ended = text.ends_with(kEndOfSentence);
    if (ended) text.resize(text.size() - kEndOfSentence.size());
    const auto parsed = Parse(recorded["thinking_mode"] == "thinking" ? kThinkingCalls : kCalls, text);
    if (recorded.contains("error")) {
      EXPECT_TRUE(!ended || !parsed.fault.empty());
      ++refused;
      continue;
    }
    ++compared;
    EXPECT_TRUE(ended);
    EXPECT_EQ(parsed.fault, "");
    const auto& message = recorded["message"];
    EXPECT_EQ(parsed.piece.content, message["content"]);
    EXPECT_EQ(parsed.piece.reasoning, message["reasoning_content"]);
    ASSERT_EQ(parsed.piece.calls.size(), message["tool_calls"].size());
    for (std::size_t i = 0; i < parsed.piece.calls.size(); ++i) {
      EXPECT_EQ(parsed.piece.calls[i].name, message["tool_calls"][i]["function"]["name"]);
      EXPECT_EQ(parsed.piece.calls[i].arguments, message["tool_calls"][i]["function"]["arguments"]);
    }
  }
  EXPECT_EQ(compared, 5);
  EXPECT_EQ(refused, 4);
}

TEST(AnswerParser, AnyCutGivesTheSameAnswer) {
  const std::vector<std::string> parts = {"text ",
                                          "\n",
                                          "\n\n",
                                          "<",
                                          "</",
                                          "｜DSML｜",
                                          "中",
                                          "<think>",
                                          "</think>",
                                          "{\"a\": 1}",
                                          "\"",
                                          " ",
                                          std::string(kCallsOpen),
                                          std::string(kCallsClose),
                                          "<｜DSML｜invoke name=\"f\">",
                                          "<｜DSML｜invoke",
                                          std::string(kInvokeClose),
                                          Parameter("a", "true", "v</｜DSML｜x"),
                                          Parameter("b", "false", "[1]"),
                                          "<｜DSML｜parameter name=\"c\">",
                                          std::string(kParameterClose),
                                          Invoke("f", ""),
                                          Invoke("g", Parameter("k", "true", "one\n\ntwo")),
                                          Block(Invoke("f", Parameter("a", "false", "2"))),
                                          "<｜DSML｜invoke name=\"f\"/>"};
  ExpectAnyCutGivesTheSameAnswer(20261125, parts, [](std::mt19937_64& random) {
    AnswerFormat format = {.begins_in_reasoning = random() % 2 == 0, .tool_calls = random() % 8 != 0};
    if (random() % 4 == 0) format.tool_names = {"f"};
    return format;
  });
}

}  // namespace
}  // namespace sluice::text
