#include <gtest/gtest.h>

#include <vector>

#include "text/pattern_dialect.h"
#include "text/split_pattern.h"
#include "text/test_support.h"
#include "text/utf8.h"

namespace sluice::text {
namespace {

std::vector<std::string> Parts(const SplitPattern& pattern, std::string_view text) {
  MatchScratch scratch;
  std::vector<std::string> parts;
  pattern.Split(text, scratch, [&](std::string_view part) { parts.emplace_back(part); });
  return parts;
}

// Every code point that a one-character pattern matches, against the regular expressions of the Hugging Face
// tokenizers library 0.23.3 (Unicode 16): their number and the SHA-256 of the code points, 32 bits each,
// little-endian, ascending.
struct ClassCase {
  const char* pattern;
  std::size_t count;
  const char* sha256;
};
constexpr ClassCase kClasses[] = {
    {R"re(\p{L})re", 141028, "78ae558106ca21067632cc329470fae717df06527c1c2df449a76bb683c19c99"},
    {R"re(\p{M})re", 2501, "e78963d9a6f9a1237a2f8d0aa7d8fa641ad82f744aaffac70b28e6db8f287e9c"},
    {R"re(\p{N})re", 1911, "2bd3786d4b828432b645d4b94ecdf661276a9abbdd835ca480b766091ca79d58"},
    {R"re(\p{P})re", 855, "4689f4eafc6a3949a4dd127f47642b74d445e1afeb8f39bff1bcf32a6cda71e8"},
    {R"re(\p{S})re", 8514, "bc6769002feeb7a224d31cfb03a267f3de7025dd28601a438aef733b428957cc"},
    {R"re(\s)re", 25, "923484759253ae505ab2d0503253d9dfd4f279ad5ce709bbe1ca5f1fdcd45b4b"},
    {R"re(\S)re", 1112039, "8ee886cd1b9ff06182e159530460166103e41579dcb7ca0586679ba54a4fdd05"},
    {R"re(\P{L})re", 971036, "a88f9bdd572147a1f964de0102562a6f04bb804889103697c3eca4f0053b8867"},
    {R"re([^\r\n\p{L}\p{P}\p{S}])re", 961665,
     "df11e8b2abae736074c91caccfd7649bcd152b51fe3bd13d17bd1042dcbfd570"},
    {R"re([^\s\p{L}\p{N}])re", 969100, "c2a42bada1132599ae1732020284e953be6344271e0b70b17481d0b12883d259"},
    {R"re((?i:s))re", 3, "8c35c3b8a30eb27d1d192af9904e03d6412d01e33e727a2d12ff6de474817b8e"},
    {R"re((?i:k))re", 3, "3d28d241c87d688798d5b5de1650d57c974d8f80e0eecaedcf55e7b714644055"},
};

TEST(Pattern, ClassesHoldTheCodePointsOfUnicode16) {
  for (const ClassCase& wanted : kClasses) {
    const SplitPattern pattern(wanted.pattern, "test");
    MatchScratch scratch;
    std::string matched;
    std::string character;
    for (uint32_t c = 0; c < 0x110000; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      character.clear();
      AppendUtf8(c, character);
      if (pattern.Find(character, 0, scratch).begin == 0) {
        matched.append(reinterpret_cast<const char*>(&c), sizeof(c));
      }
    }
    EXPECT_EQ(matched.size() / 4, wanted.count) << wanted.pattern;
    EXPECT_EQ(Sha256(matched), wanted.sha256) << wanted.pattern;
  }
}

TEST(Pattern, SplitKeepsMatchesAndWhatIsBetween) {
  const SplitPattern digits(R"(\p{N}{1,3})", "test");
  EXPECT_EQ(Parts(digits, "ab1234cd5"), (std::vector<std::string>{"ab", "123", "4", "cd", "5"}));
  EXPECT_EQ(Parts(digits, "no"), (std::vector<std::string>{"no"}));
  EXPECT_EQ(Parts(digits, ""), (std::vector<std::string>{}));
  const SplitPattern spaces(R"(\s+(?!\S)|\s+)", "test");
  EXPECT_EQ(Parts(spaces, "a   b  "), (std::vector<std::string>{"a", "  ", " ", "b", "  "}));
  // U+180E is a space to PCRE2 and to older Unicode versions only.
  EXPECT_EQ(Parts(spaces, "a\u180Eb\u2003c\u0085"),
            (std::vector<std::string>{"a\u180Eb", "\u2003", "c", "\u0085"}));
}

TEST(Pattern, AMegabyteOfSpaceIsNoTrouble) {
  const SplitPattern pattern(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", "test");
  const std::string space(1 << 20, ' ');
  EXPECT_EQ(Parts(pattern, space + "x"), (std::vector<std::string>{space.substr(1), " ", "x"}));
}

TEST(Pattern, RefusesWhatTheLibrariesMayDifferOn) {
  for (const char* pattern :
       {R"(\w+)",     R"(\d)",     R"(\bx)",    R"(\v)",      R"(\h)",        R"(\p{Lu})",   R"(\p{Han})",
        R"(\p{^L})",  R"(\pL)",    R"([\S])",   R"([\P{L}])", R"([a[b]])",    R"([a&&b])",   R"([[:alpha:]])",
        R"([])",      R"([^]a])",  R"(.)",      R"(^a)",      R"(a$)",        R"((a))",      R"((?<=a)b)",
        R"((?<n>a))", R"((?m:a))", R"((?#c)a)", R"((*UTF)a)", R"(a{,3})",     R"(a{1,2}+)",  R"(a{2}?)",
        R"(a{x})",    R"(a{)",     R"(a**)",    R"(a+*)",     R"(a++*)",      R"(\x41)",     R"(\1)",
        R"(a\)",      R"([a)",     R"((?:a)",   R"(a))",      R"([\p{L}-z])", R"((?i:'st))", R"((?i:(?:ff)))",
        R"(\p{L)"}) {
    const std::string message =
        Refusal(ErrorKind::kModelFiles, [&] { PatternForPcre2(pattern, "file: place"); });
    EXPECT_TRUE(message.starts_with("file: place: the pattern has ")) << pattern << ": " << message;
  }
  for (const char* pattern : {"a*", "a|", "(?=a)", "(?:a?b?)"}) {
    EXPECT_NE(
        Refusal(ErrorKind::kModelFiles, [&] { SplitPattern(pattern, "file: place"); }).find("empty string"),
        std::string::npos)
        << pattern;
  }
  // What PCRE2 itself refuses is a sentence too.
  for (const char* pattern : {"[z-a]", "a{3,2}", "*a"}) {
    EXPECT_NE(Refusal(ErrorKind::kModelFiles, [&] { SplitPattern(pattern, "file: place"); })
                  .find("does not compile"),
              std::string::npos)
        << pattern;
  }
}

TEST(Pattern, AcceptsTheDialect) {
  const SplitPattern glm(
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      "test");
  EXPECT_EQ(Parts(glm, "I'LL (go)\n12345"),
            (std::vector<std::string>{"I", "'LL", " (", "go", ")\n", "123", "45"}));
  const SplitPattern possessive(R"([^\r\n\p{L}\p{N}]?+\p{L}++|x{2}|y{2,}z|[a\-\]\\-]*?b)", "test");
  EXPECT_EQ(Parts(possessive, " ab-"), (std::vector<std::string>{" ab", "-"}));
}

}  // namespace
}  // namespace sluice::text
