#include "text/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <simdjson.h>

#include "text/grammar_test_support.h"
#include "text/regex_grammar.h"

namespace sluice::text {
namespace {

// PCRE2, which knows nothing of our rules: does the text match as a whole, and can it become one that does?
class Oracle {
 public:
  explicit Oracle(const std::string& pattern) {
    const std::string whole = "\\A(?:" + pattern + ")\\z";
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_ =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(whole.data()), whole.size(), 0, &error, &offset, nullptr);
    EXPECT_NE(code_, nullptr) << pattern;
    data_ = pcre2_match_data_create_from_pattern(code_, nullptr);
  }
  ~Oracle() {
    pcre2_match_data_free(data_);
    pcre2_code_free(code_);
  }
  Oracle(const Oracle&) = delete;
  Oracle& operator=(const Oracle&) = delete;
  bool Matches(const std::string& text) const { return Match(text, 0) >= 0; }
  bool MayBecome(const std::string& text) const {
    return Matches(text) || Match(text, PCRE2_PARTIAL_SOFT) == PCRE2_ERROR_PARTIAL;
  }

 private:
  int Match(const std::string& text, uint32_t options) const {
    return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, options, data_,
                       nullptr);
  }
  pcre2_code* code_;
  pcre2_match_data* data_;
};

bool IsAscii(std::string_view bytes) {
  return std::ranges::all_of(bytes, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

const char* const kPatterns[] = {"[a-z]{3,9}@[a-z]+\\.com",
                                 "(yes|no|maybe)( not)?",
                                 "\\d{4}-\\d{2}-\\d{2}",
                                 "^-?(0|[1-9]\\d*)(\\.\\d+)?$",
                                 "(a|ab)(c|bcd)*e?",
                                 "[^\\W\\d]+\\s\\S{2}",
                                 "(?:t(he|hen)? ?){2,4}",
                                 "[\\s\\S]{3}[^\\x00-\\x7e]",
                                 "a{0,2}b{2}c{1,}",
                                 "x*?y+?z??",
                                 "",
                                 "(a*)*b",
                                 "\\x41[\\t -~]\\n.",
                                 "(in|th|er|on|an){1,6}",
                                 "[\\]\\-a^]{2}",
                                 "((e|t)(e|t)?)+s",
                                 "the|t|th[a-e]|.{5}",
                                 "(\\d{1,3}\\.){3}\\d{1,3}"};

TEST(Grammar, RegexMasksAreWhatBruteForceFinds) {
  GrammarWorld world;
  std::mt19937 random(11);
  int64_t allowed_tokens = 0;
  for (const std::string pattern : kPatterns) {
    const auto grammar = world.compiler().Regex(pattern);
    // Its $ also stands before a last line break, and its anchors are partial matches there.
    const bool anchored = pattern.starts_with('^');
    const Oracle oracle(anchored ? pattern.substr(1, pattern.size() - 2) : pattern);
    for (int walk = 0; walk < 12; ++walk) {
      GrammarState state(grammar);
      std::vector<uint32_t> mask((GrammarWorld::kVocabulary + 31) / 32);
      std::string text;
      for (int i = 0; i < 12; ++i) {
        const GrammarState::Next next = state.Fill(mask);
        ASSERT_EQ(next.end, oracle.Matches(text)) << pattern << " after \"" << text << '"';
        std::vector<int32_t> choices;
        for (int32_t token = 0; token < GrammarWorld::kVocabulary; ++token) {
          const bool allowed = (mask[token / 32] >> (token % 32) & 1U) != 0;
          const std::string bytes(world.tokenizer().TokenBytes(token));
          if (world.tokenizer().IsAdded(token)) {
            ASSERT_FALSE(allowed) << "an added token";
            continue;
          }
          if (!IsAscii(bytes)) continue;  // PCRE2 takes bytes for characters here
          ASSERT_EQ(allowed, oracle.MayBecome(text + bytes))
              << pattern << ": \"" << bytes << "\" after \"" << text << '"';
          if (allowed) choices.push_back(token);
        }
        allowed_tokens += std::ssize(choices);
        if (choices.empty()) break;
        const int32_t token = choices[random() % choices.size()];
        ASSERT_TRUE(state.Accept(token));
        text += world.tokenizer().TokenBytes(token);
      }
    }
  }
  EXPECT_GT(allowed_tokens, 5000);
}

TEST(Grammar, ATokenThatContainsAnotherIsNotTakenForItsContinuation) {
  // "qxqa" and "qa" are neighbours in the sorted vocabulary, and one contains the other without beginning
  // with it.
  nlohmann::ordered_json made = nlohmann::ordered_json::parse(ByteTokenizerJson(300));
  made["model"]["vocab"]["qa"] = 300;
  made["model"]["vocab"]["qxqa"] = 301;
  const ScratchFile file(made.dump());
  const auto tokenizer = Tokenizer::Load(file.path());
  ASSERT_EQ(tokenizer->TokenBytes(301), "qxqa");
  GrammarCompiler compiler(*tokenizer, 302);
  GrammarState state(compiler.Regex("qxqa|qy"));
  std::vector<uint32_t> mask(10);
  state.Fill(mask);
  EXPECT_EQ(mask[300 / 32] >> (300 % 32) & 3U, 2U) << "not qa, but qxqa";
}

TEST(Grammar, ATokenThatTheMaskLeavesOutIsNotTaken) {
  GrammarWorld world;
  GrammarState state(world.compiler().Regex("[0-9]+"));
  std::vector<uint32_t> before((GrammarWorld::kVocabulary + 31) / 32);
  std::vector<uint32_t> after(before.size());
  ASSERT_TRUE(state.Accept(GrammarWorld::ByteToken('4')));
  state.Fill(before);
  for (int32_t token = -1; token <= GrammarWorld::kVocabulary; ++token) {
    const bool allowed =
        token >= 0 && token < GrammarWorld::kVocabulary && (before[token / 32] >> (token % 32) & 1U) != 0;
    if (!allowed) {
      ASSERT_FALSE(state.Accept(token)) << token;
    }
  }
  state.Fill(after);
  EXPECT_EQ(before, after);
}

TEST(Grammar, ClassesMatchWholeCharactersOnly) {
  GrammarWorld world;
  std::mt19937 random(12);
  const auto grammar = world.compiler().Regex("[^a-z]{1,6}");
  int wide = 0;
  for (int i = 0; i < 300; ++i) {
    const auto [text, whole] = world.Sample(grammar, random, 60);
    if (!whole) continue;
    EXPECT_TRUE(simdjson::validate_utf8(text));
    if (!IsAscii(text)) ++wide;
  }
  EXPECT_GT(wide, 20);
  EXPECT_TRUE(world.Takes(world.compiler().Regex("[é中]+\\u00df.x"), "é中中ß💡x"));
  EXPECT_FALSE(world.Takes(world.compiler().Regex("."), "\xC3"));
  EXPECT_FALSE(world.Takes(world.compiler().Regex("."), "\xED\xA0\x80")) << "half of a surrogate pair";
}

TEST(Grammar, RegexRefusalsSayWhatAndWhere) {
  const auto refused = [](std::string_view pattern, std::string_view says) {
    EXPECT_THAT(Refusal(ErrorKind::kBadRequest, [&] { RegexRules(pattern); }), testing::HasSubstr(says))
        << pattern;
  };
  refused("(a", "'(' that is not closed");
  refused("a)", "')' that closes nothing");
  refused("(?=a)b", "only that is supported");
  refused("(?<n>a)", "only that is supported");
  refused("(?i)a", "only that is supported");
  refused("(a)\\1", "escape that is not supported (at character 5)");
  refused("\\bfoo", "escape that is not supported");
  refused("\\p{L}", "escape that is not supported");
  refused("a^b", "has a '^' inside");
  refused("a$b", "has a '$' inside");
  refused("*a", "quantifier with nothing before it");
  refused("a**", "two quantifiers in a row");
  refused("a++", "two quantifiers in a row");
  refused("a{3,2}", "repeats at least 3 and at most 2 times");
  refused("a{1001}", "repeats more than 1000 times");
  refused("a{99999999999999999999}", "repeats more than 1000 times");
  refused("([bc]{8}d){8}", "too large with its counts written out");
  refused("(.{1,8}){1,8}", "and 256 is the limit");
  refused("((.{1,4}){1,4}){1,4}", "and 256 is the limit");
  refused("(.{8}){9}", "and 1024 is the limit");
  refused("a{,3}", "begins no quantifier");
  refused("a{x}", "begins no quantifier");
  refused("[]", "class without characters");
  refused("[z-a]", "does not go from one character to a later one");
  refused("[\\d-z]", "does not go from one character to a later one");
  refused("[[:alpha:]]", "'[' in a class");
  refused("[abc", "ends inside a class");
  refused("a\\", "ends inside an escape");
  refused("\\x4", "ends inside an escape");
  refused("\\ud800", "class without characters");
  refused("\xff", "not UTF-8");
  refused("[a\u0400-\u0600]", "has more than 256 and not all of those beyond ASCII");
  refused(std::string(40, '(') + std::string(40, ')'), "groups more than 32 deep");
  refused(std::string(5000, 'a'), "has 5000 bytes; at most 4096 are taken");
}

TEST(Grammar, NoPatternDoesMoreThanBeRefused) {
  GrammarWorld world;
  std::mt19937 random(13);
  const std::string_view alphabet = "ab.\\()[]{}*+?|^$-,:0123dwsxu\xC3\xA9 ";
  int taken = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string pattern;
    for (size_t size = random() % 14; size > 0; --size) pattern += alphabet[random() % alphabet.size()];
    try {
      const auto grammar = world.compiler().Regex(pattern);
      ++taken;
      const auto [text, whole] = world.Sample(grammar, random, 20);
      if (whole && IsAscii(pattern) && IsAscii(text)) {
        EXPECT_TRUE(Oracle(pattern).Matches(text)) << pattern << " and " << text;
      }
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::kBadRequest) << pattern << ": " << error.what();
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(taken, 300);
}

}  // namespace
}  // namespace sluice::text
