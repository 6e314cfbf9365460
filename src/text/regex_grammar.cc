#include "text/regex_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "text/ebnf.h"
#include "text/utf8.h"

namespace sluice::text {
namespace {

constexpr char32_t kLast = 0x10FFFF;
constexpr char32_t kSurrogates = 0xD800;  // up to 0xDFFF, which are no characters

constexpr int64_t kClassSize = 16;

using Range = std::pair<char32_t, char32_t>;
using Ranges = std::vector<Range>;

// Ascending, without gaps of nothing between them and without surrogates.
Ranges Tidy(Ranges ranges) {
  std::ranges::sort(ranges);
  Ranges joined;
  for (const Range& range : ranges) {
    if (!joined.empty() && range.first <= joined.back().second + 1) {
      joined.back().second = std::max(joined.back().second, range.second);
    } else {
      joined.push_back(range);
    }
  }
  Ranges tidy;
  for (const auto& [first, last] : joined) {
    if (first < kSurrogates) tidy.emplace_back(first, std::min<char32_t>(last, kSurrogates - 1));
    if (last > 0xDFFF) tidy.emplace_back(std::max<char32_t>(first, 0xE000), last);
  }
  return tidy;
}

Ranges Without(const Ranges& ranges) {
  Ranges others;
  char32_t next = 0;
  for (const auto& [first, last] : Tidy(ranges)) {
    if (first > next) others.emplace_back(next, first - 1);
    next = last + 1;
  }
  if (next <= kLast) others.emplace_back(next, kLast);
  return Tidy(others);
}

const Ranges kDigits{{'0', '9'}};
const Ranges kWord{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kSpace{{'\t', '\r'}, {' ', ' '}};

class RegexParser {
 public:
  explicit RegexParser(std::string_view pattern) {
    while (!pattern.empty()) {
      const Utf8Unit unit = FirstUtf8Unit(pattern);
      if (unit.kind != Utf8Unit::Kind::kCharacter) {
        Fail(ErrorKind::kBadRequest, "the regular expression is not UTF-8");
      }
      pattern_.push_back(CodePoint(pattern.substr(0, unit.length)));
      pattern.remove_prefix(unit.length);
    }
  }

  std::string Make() {
    if (Next('^')) ++at_;
    if (at_ < pattern_.size() && pattern_.back() == '$' && !LastIsEscaped()) pattern_.pop_back();
    std::string body = Alternatives(0);
    if (!AtEnd()) Refuse("has a ')' that closes nothing");
    return fmt::format("root ::= {}\n", body);
  }

 private:
  template <typename... Args>
  [[noreturn]] void Refuse(fmt::format_string<Args...> format, Args&&... args) const {
    Fail(ErrorKind::kBadRequest, "the regular expression {} (at character {})",
         fmt::format(format, std::forward<Args>(args)...), at_);
  }

  struct Counts {
    int64_t least = 1;
    int64_t most = 1;  // -1: any
  };

  bool AtEnd() const { return at_ == pattern_.size(); }
  bool Next(char32_t c) const { return !AtEnd() && pattern_[at_] == c; }
  char32_t Take(std::string_view what) {
    if (AtEnd()) Refuse("ends inside {}", what);
    return pattern_[at_++];
  }
  bool LastIsEscaped() const {
    size_t backslashes = 0;
    while (backslashes + 1 < pattern_.size() && pattern_[pattern_.size() - 2 - backslashes] == '\\')
      ++backslashes;
    return backslashes % 2 == 1;
  }

  std::string Alternatives(int depth) {
    if (depth > kMaxRegexDepth) Refuse("has groups more than {} deep", kMaxRegexDepth);
    std::string body = Sequence(depth);
    while (Next('|')) {
      ++at_;
      body += " | " + Sequence(depth);
    }
    return body;
  }

  std::string Sequence(int depth) {
    std::string body;
    while (!AtEnd() && pattern_[at_] != '|' && pattern_[at_] != ')') {
      if (!body.empty()) body += ' ';
      const int64_t before = size_;
      const bool varied = varies_;
      varies_ = false;
      const std::string atom = Atom(depth);
      const Counts counts = Quantifier();
      const int64_t times = std::max<int64_t>({counts.least, counts.most, 1});
      const int64_t limit = varies_ && times > 1 ? kMaxRegexNestedSize : kMaxRegexSize;
      size_ = before + (size_ - before) * times;
      if (size_ > kMaxRegexSize || size_ - before > limit) {
        Refuse(
            "is too large with its counts written out: lower the counts; a class or '.' counts as {} "
            "characters, and {} is the limit",
            kClassSize, limit);
      }
      varies_ = varied || varies_ || counts.least != counts.most;
      body += counts.least == 1 && counts.most == 1 ? atom : EbnfRepeat(atom, counts.least, counts.most);
    }
    return body.empty() ? "\"\"" : body;
  }

  std::string Atom(int depth) {
    const char32_t c = pattern_[at_];
    switch (c) {
      case '(': {
        ++at_;
        if (Next('?')) {
          ++at_;
          if (!Next(':'))
            Refuse("has a group that begins with \"(?\" and is not \"(?:\"; only that is supported");
          ++at_;
        }
        std::string body = Alternatives(depth + 1);
        if (!Next(')')) Refuse("has a '(' that is not closed");
        ++at_;
        return '(' + body + ')';
      }
      case '[':
        return Written(Class());
      case '.':
        ++at_;
        return Written(Without({{'\n', '\n'}}));
      case '\\':
        ++at_;
        return Written(Escape());
      case '^':
      case '$':
        Refuse("has a '{}' inside; the whole answer is matched, so leave it out or write \\{}",
               static_cast<char>(c), static_cast<char>(c));
      case '*':
      case '+':
      case '?':
      case '{':
        Refuse("has a quantifier with nothing before it; a literal one is written \\{}",
               static_cast<char>(c));
      default:
        ++at_;
        return Written({{c, c}});
    }
  }

  std::string Written(const Ranges& ranges) {
    const bool one = ranges.size() == 1 && ranges.front().first == ranges.front().second;
    size_ += one ? 1 : kClassSize;
    if (ranges.empty()) Refuse("has a class without characters");
    return EbnfClass(ranges);
  }

  int64_t Number() {
    int64_t number = 0;
    const size_t begin = at_;
    while (!AtEnd() && pattern_[at_] >= '0' && pattern_[at_] <= '9') {
      number =
          std::min<int64_t>(number * 10 + static_cast<int64_t>(pattern_[at_] - '0'), kMaxRegexRepeats + 1);
      ++at_;
    }
    if (at_ == begin) Refuse("has a '{{' that begins no quantifier; a literal one is written \\{{");
    if (number > kMaxRegexRepeats) Refuse("repeats more than {} times", kMaxRegexRepeats);
    return number;
  }

  Counts Quantifier() {
    Counts counts;
    if (Next('*') || Next('+') || Next('?')) {
      const char32_t c = pattern_[at_++];
      counts = {c == '+' ? 1 : 0, c == '?' ? 1 : -1};
    } else if (Next('{')) {
      ++at_;
      counts.least = counts.most = Number();
      if (Next(',')) {
        ++at_;
        counts.most = Next('}') ? -1 : Number();
        if (counts.most >= 0 && counts.most < counts.least) {
          Refuse("repeats at least {} and at most {} times", counts.least, counts.most);
        }
      }
      if (!Next('}')) Refuse("has a '{{' that begins no quantifier; a literal one is written \\{{");
      ++at_;
    } else {
      return counts;
    }
    if (Next('?')) ++at_;  // lazy: the same texts
    if (Next('*') || Next('+') || Next('?') || Next('{')) Refuse("has two quantifiers in a row");
    return counts;
  }

  char32_t Hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char32_t c = Take("an escape");
      const char32_t low = c | 0x20;
      if (c >= '0' && c <= '9') {
        value = value * 16 + (c - '0');
      } else if (low >= 'a' && low <= 'f') {
        value = value * 16 + (low - 'a' + 10);
      } else {
        Refuse("has an escape with too few hexadecimal digits");
      }
    }
    return value;
  }

  // Behind a backslash.
  Ranges Escape() {
    const char32_t c = Take("an escape");
    const auto one = [](char32_t character) { return Ranges{{character, character}}; };
    switch (c) {
      case 'd':
        return kDigits;
      case 'D':
        return Without(kDigits);
      case 'w':
        return kWord;
      case 'W':
        return Without(kWord);
      case 's':
        return kSpace;
      case 'S':
        return Without(kSpace);
      case 'n':
        return one('\n');
      case 't':
        return one('\t');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case '0':
        return one(0);
      case 'x':
        return one(Hex(2));
      case 'u':
        return Tidy(one(Hex(4)));
      default:
        break;
    }
    const bool letter =
        (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c > 0x7F;
    if (letter) Refuse("has an escape that is not supported");
    return one(c);
  }

  Ranges Class() {
    ++at_;
    const bool negated = Next('^');
    if (negated) ++at_;
    if (Next(']')) Refuse("has a class without characters; a literal ] is written \\]");
    Ranges ranges;
    while (!Next(']')) {
      const Ranges low = ClassMember();
      const bool range = Next('-') && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']';
      if (!range) {
        ranges.insert(ranges.end(), low.begin(), low.end());
        continue;
      }
      ++at_;
      const Ranges high = ClassMember();
      const auto single = [](const Ranges& r) {
        return r.size() == 1 && r.front().first == r.front().second;
      };
      if (!single(low) || !single(high) || low.front().first > high.front().first) {
        Refuse("has a range in a class that does not go from one character to a later one");
      }
      ranges.emplace_back(low.front().first, high.front().first);
    }
    ++at_;
    return negated ? Without(ranges) : Tidy(ranges);
  }

  Ranges ClassMember() {
    const char32_t c = Take("a class");
    if (c == '\\') return Escape();
    if (c == '[') Refuse("has a '[' in a class; a literal one is written \\[");
    return {{c, c}};
  }

  std::vector<char32_t> pattern_;
  size_t at_ = 0;
  int64_t size_ = 0;
  bool varies_ = false;  // the part being read has a quantifier that leaves its length open
};

}  // namespace

std::string RegexRules(std::string_view pattern) {
  if (pattern.size() > kMaxRegexBytes) {
    Fail(ErrorKind::kBadRequest, "the regular expression has {} bytes; at most {} are taken", pattern.size(),
         kMaxRegexBytes);
  }
  return RegexParser(pattern).Make();
}

}  // namespace sluice::text
