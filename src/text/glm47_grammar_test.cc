#include "text/glm47_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/answer_parser.h"
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

std::string Argument(const std::string& key, const std::string& value) {
  return "<arg_key>" + key + "</arg_key><arg_value>" + value + "</arg_value>";
}
std::string Call(const std::string& name, const std::string& inside = "") {
  return "<tool_call>" + name + inside + "</tool_call>";
}

TEST(Glm47Grammar, TakesCallsByTheirSchemas) {
  GlmWorld world;
  const auto grammar = world.Of({"get_weather", "now", "free"});
  const std::vector<std::string> taken = {
      Call("now"),
      Call("now") + Call("now"),
      Call("get_weather", Argument("place", "Oslo")),
      Call("get_weather", Argument("place", "")),
      Call("get_weather", Argument("place", "<b>a < b</arg_valu</arg_key> 中 \" \\ </</arg_")),
      Call("get_weather", Argument("place", "x") + Argument("days", "-12") + Argument("unit", "F")),
      Call("get_weather", Argument("place", "x") + Argument("o", R"({"x": 1.5})")),
      Call("get_weather", Argument("place", "x") + Argument("odd", R"([1, "a", null])")),
      Call("get_weather", Argument("place", "x") + Argument("maybe", "null")),
      Call("get_weather",
           Argument("place", "x") + Argument("odd", R"(["</arg_valu>", "<</arg_", "\"\u003c"])")),
      Call("free"),
      Call("free", Argument("a b", "1") + Argument("c", "2")),
  };
  for (const std::string& text : taken) {
    EXPECT_TRUE(world.Takes(grammar, text)) << text;
    EXPECT_TRUE(world.Takes(grammar, text, true)) << text;
  }
  const std::vector<std::string> refused = {
      "",
      "x",
      "\n" + Call("now"),
      Call("now") + "x",
      Call("later"),
      Call("now", Argument("a", "1")),
      "<tool_call>now",
      Call("get_weather"),                                                         // place is missing
      Call("get_weather", Argument("days", "1") + Argument("place", "x")),         // the order
      Call("get_weather", Argument("place", "x") + Argument("days", "one")),       // the type
      Call("get_weather", Argument("place", "x") + Argument("unit", "K")),         // the enum
      Call("get_weather", Argument("place", "x") + Argument("o", R"({"y": 1})")),  // the schema inside
      Call("get_weather", Argument("place", "x") + Argument("odd", "{}")),         // the type, at least
      Call("get_weather", Argument("place", "x") + Argument("odd", R"(["</arg_value>"])")),  // ends it
      Call("free", Argument("", "1")),
  };
  for (const std::string& text : refused) {
    EXPECT_FALSE(world.Takes(grammar, text)) << text;
    EXPECT_FALSE(world.Takes(grammar, text, true)) << text;
  }
}

TEST(Glm47Grammar, OnlyTheNamedOnesAndOnceIfToldSo) {
  GlmWorld world;
  const auto grammar = world.Of({"now"}, true);
  EXPECT_TRUE(world.Takes(grammar, Call("now")));
  EXPECT_FALSE(world.Takes(grammar, Call("free")));
  EXPECT_FALSE(world.Takes(grammar, Call("now") + Call("now")));
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
