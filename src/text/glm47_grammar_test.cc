#include "text/glm47_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/answer_parser.h"
#include "text/glm_call_text.h"
#include "text/grammar_test_support.h"
#include "text/python_json.h"

namespace sluice::text {
namespace {

using Json = nlohmann::json;

const std::string kWeather = R"({"name": "get_weather", "parameters": {"type": "object", "properties": {
  "place": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": "string", "enum": ["C", "F"]},
  "o": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"], "additionalProperties": false},
  "odd": {"type": "array", "uniqueItems": true}, "maybe": {"type": ["string", "null"]}},
  "required": ["place"]}})";
const std::string kNow = R"({"name": "now"})";
const std::string kFree =
    R"({"name": "free", "parameters": {"type": "object", "additionalProperties": true}})";
const std::vector<std::string> kTools = {kWeather, kNow, kFree};

// The grammar world over GLM's marks: they are the tokens 12 to 19, the bytes follow from 20 on.
class GlmWorld {
 public:
  static constexpr int32_t kVocabulary = 600;
  GlmWorld()
      : file_(ByteTokenizerJson(kVocabulary, {}, TokenizerFamily::kGlm)),
        tokenizer_(Tokenizer::Load(file_.path())) {}

  std::shared_ptr<const Grammar> Of(const std::vector<std::string>& names, bool one = false) {
    return compiler_.Calls(Glm47CallRules(kTools, names, one));
  }
  GrammarCompiler& compiler() { return compiler_; }

  // Whether the grammar takes the text as a whole answer, in tokens of the tokenizer, or byte by byte.
  bool Takes(const std::shared_ptr<const Grammar>& grammar, const std::string& text,
             bool bytes = false) const {
    std::vector<int32_t> tokens;
    if (bytes) {
      for (const char byte : text) tokens.push_back(20 + static_cast<unsigned char>(byte));
    } else {
      tokens = tokenizer_->Encode(text);
    }
    GrammarState state(grammar);
    for (const int32_t token : tokens) {
      if (!state.Accept(token)) return false;
    }
    std::vector<uint32_t> mask((kVocabulary + 31) / 32);
    return state.Fill(mask).end;
  }

  // A random walk through the masks; marks are liked, or it would hardly end.
  std::string Sample(const std::shared_ptr<const Grammar>& grammar, std::mt19937& random, int most) const {
    GrammarState state(grammar);
    std::vector<uint32_t> mask((kVocabulary + 31) / 32);
    std::string text;
    for (int i = 0; i < most; ++i) {
      const GrammarState::Next next = state.Fill(mask);
      if (next.end && (!next.text || random() % 2 == 0)) return text;
      std::vector<int32_t> tokens;
      for (int32_t token = 0; token < kVocabulary; ++token) {
        if ((mask[token / 32] >> (token % 32) & 1U) == 0) continue;
        const std::string_view bytes = tokenizer_->TokenBytes(token);
        const bool ends = bytes == "</arg_value>" || bytes == "\"" || bytes == "}" || bytes == "]";
        tokens.insert(tokens.end(), ends ? 60 : 1, token);
      }
      if (tokens.empty()) {
        ADD_FAILURE() << "nothing may follow \"" << text << "\"";
        return "";
      }
      const int32_t token = tokens[random() % tokens.size()];
      EXPECT_TRUE(state.Accept(token)) << token << " after " << text;
      text += tokenizer_->TokenBytes(token);
    }
    return "";
  }

 private:
  ScratchFile file_;
  std::unique_ptr<Tokenizer> tokenizer_;
  GrammarCompiler compiler_{*tokenizer_, kVocabulary};
};

TEST(Glm47Grammar, TakesCallsByTheirSchemas) {
  GlmWorld world;
  const auto grammar = world.Of({"get_weather", "now", "free"});
  const std::vector<std::string> taken = {
      GlmCall("now"),
      GlmCall("now") + GlmCall("now"),
      GlmCall("get_weather", GlmArgument("place", "Oslo")),
      GlmCall("get_weather", GlmArgument("place", "")),
      GlmCall("get_weather", GlmArgument("place", "<b>a < b</arg_valu</arg_key> 中 \" \\ </</arg_")),
      GlmCall("get_weather",
              GlmArgument("place", "x") + GlmArgument("days", "-12") + GlmArgument("unit", "F")),
      GlmCall("get_weather", GlmArgument("place", "x") + GlmArgument("o", R"({"x": 1.5})")),
      GlmCall("get_weather", GlmArgument("place", "x") + GlmArgument("odd", R"([1, "a", null])")),
      GlmCall("get_weather", GlmArgument("place", "x") + GlmArgument("maybe", "null")),
      GlmCall("get_weather",
              GlmArgument("place", "x") + GlmArgument("odd", R"(["</arg_valu>", "<</arg_", "\"\u003c"])")),
      GlmCall("free"),
      GlmCall("free", GlmArgument("a b", "1") + GlmArgument("c", "2")),
  };
  for (const std::string& text : taken) {
    EXPECT_TRUE(world.Takes(grammar, text)) << text;
    EXPECT_TRUE(world.Takes(grammar, text, true)) << text;
  }
  const std::vector<std::string> refused = {
      "",
      "x",
      "\n" + GlmCall("now"),
      GlmCall("now") + "x",
      GlmCall("later"),
      GlmCall("now", GlmArgument("a", "1")),
      "<tool_call>now",
      GlmCall("get_weather"),                                                          // place is missing
      GlmCall("get_weather", GlmArgument("days", "1") + GlmArgument("place", "x")),    // the order
      GlmCall("get_weather", GlmArgument("place", "x") + GlmArgument("days", "one")),  // the type
      GlmCall("get_weather", GlmArgument("place", "x") + GlmArgument("unit", "K")),    // the enum
      GlmCall("get_weather",
              GlmArgument("place", "x") + GlmArgument("o", R"({"y": 1})")),          // the schema inside
      GlmCall("get_weather", GlmArgument("place", "x") + GlmArgument("odd", "{}")),  // the type, at least
      GlmCall("get_weather",
              GlmArgument("place", "x") + GlmArgument("odd", R"(["</arg_value>"])")),  // ends it
      GlmCall("free", GlmArgument("", "1")),
  };
  for (const std::string& text : refused) {
    EXPECT_FALSE(world.Takes(grammar, text)) << text;
    EXPECT_FALSE(world.Takes(grammar, text, true)) << text;
  }
}

TEST(Glm47Grammar, OnlyTheNamedOnesAndOnceIfToldSo) {
  GlmWorld world;
  const auto grammar = world.Of({"now"}, true);
  EXPECT_TRUE(world.Takes(grammar, GlmCall("now")));
  EXPECT_FALSE(world.Takes(grammar, GlmCall("free")));
  EXPECT_FALSE(world.Takes(grammar, GlmCall("now") + GlmCall("now")));
}

// Other grammars have no marks in them.
TEST(Glm47Grammar, MarksAreTokensOfCallsAlone) {
  GlmWorld world;
  const auto regex = world.compiler().Regex("<tool_call>");
  EXPECT_FALSE(world.Takes(regex, "<tool_call>"));
  EXPECT_TRUE(world.Takes(regex, "<tool_call>", true));
}

// Whatever the masks let through is calls for the parser, with arguments that are of the schema.
TEST(Glm47Grammar, TheParserReadsWhatTheGrammarAllows) {
  GlmWorld world;
  const auto grammar = world.Of({"get_weather", "now"});
  std::mt19937 random(7);
  int whole = 0;
  for (int i = 0; i < 400; ++i) {
    const std::string text = world.Sample(grammar, random, 600);
    if (text.empty()) continue;
    ++whole;
    AnswerParser parser({.tool_calls = true,
                         .tool_names = {"get_weather", "now"},
                         .markup = CallMarkup::kGlm47,
                         .functions = kTools});
    AnswerPiece piece = parser.Push(text);
    piece.Append(parser.Finish());
    EXPECT_EQ(piece.content, "") << text;
    EXPECT_EQ(parser.fault(), "") << text;
    EXPECT_FALSE(piece.calls.empty()) << text;
    for (const ToolCall& call : piece.calls) {
      const Json arguments = Json::parse(call.arguments);
      if (call.name == "now") {
        EXPECT_TRUE(arguments.empty()) << text;
        continue;
      }
      EXPECT_TRUE(arguments.at("place").is_string()) << text;
      if (arguments.contains("days")) {
        EXPECT_TRUE(arguments["days"].is_number_integer()) << text;
      }
      if (arguments.contains("o")) {
        EXPECT_TRUE(arguments["o"]["x"].is_number()) << text;
      }
      if (arguments.contains("odd")) {
        EXPECT_TRUE(arguments["odd"].is_array()) << text;
      }
    }
  }
  EXPECT_GT(whole, 200);
}

}  // namespace
}  // namespace sluice::text
