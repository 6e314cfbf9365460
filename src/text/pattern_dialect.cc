#include "text/pattern_dialect.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "base/error.h"
#include "text/unicode_classes.h"

namespace sluice::text {
namespace {

constexpr std::string_view kSupported =
    "supported are \\p{L} \\p{M} \\p{N} \\p{P} \\p{S}, \\s, character classes, (?:) (?i:) (?=) (?!), |, "
    "and the quantifiers ? * + {m,n}";

class Rewriter {
 public:
  Rewriter(std::string_view pattern, std::string_view where) : rest_(pattern), where_(where) {}

  std::string Run() {
    while (!rest_.empty()) Item();
    if (!groups_.empty()) Refuse("a group without its ')'");
    return std::move(out_);
  }

 private:
  [[noreturn]] void Refuse(const std::string& found) const {
    Fail(ErrorKind::kModelFiles, "{}: the pattern has {}, which is not supported; {}.", where_, found,
         kSupported);
  }

  bool Take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  char TakeOne(const char* what) {
    if (rest_.empty()) Refuse(fmt::format("{} at its end", what));
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  // One construct outside a class.
  void Item() {
    const char c = TakeOne("nothing");
    switch (c) {
      case '(':
        OpenGroup();
        break;
      case ')':
        if (groups_.empty()) Refuse("a ')' without its group");
        groups_.pop_back();
        out_ += ')';
        break;
      case '[':
        Class();
        break;
      case '\\':
        EscapeOutside();
        break;
      case '?':
      case '*':
      case '+':
        out_ += c;
        if (!rest_.empty() && (rest_[0] == '?' || rest_[0] == '+')) out_ += TakeOne("");
        RefuseSecondQuantifier();
        break;
      case '{':
        Interval();
        break;
      case '.':
      case '^':
      case '$':
        Refuse(fmt::format("'{}' outside a class", c));
      default:
        Literal(c);
    }
  }

  void OpenGroup() {
    for (const std::string_view opening : {"?:", "?i:", "?=", "?!"}) {
      if (!Take(opening)) continue;
      out_ += '(';
      out_ += opening;
      groups_.push_back(opening == "?i:" || (!groups_.empty() && groups_.back()));
      return;
    }
    Refuse(fmt::format("the group '({}'", rest_.substr(0, 3)));
  }

  void Literal(char c) {
    if (!groups_.empty() && groups_.back() && !out_.empty()) {
      constexpr std::array<std::string_view, 5> kFolded = {"ss", "st", "ff", "fi", "fl"};
      const auto lower = [](char x) {
        return static_cast<char>(std::tolower(static_cast<unsigned char>(x)));
      };
      const std::array<char, 2> pair = {lower(out_.back()), lower(c)};
      const std::string_view text(pair.data(), pair.size());
      if (std::find(kFolded.begin(), kFolded.end(), text) != kFolded.end()) {
        Refuse(fmt::format("'{}' in (?i:), which folds to one character", text));
      }
    }
    out_ += c;
  }

  // {m}, {m,} or {m,n}; Ruby's {,n} means something else to PCRE2.
  void Interval() {
    const std::size_t end = rest_.find('}');
    const std::string_view body = rest_.substr(0, end);
    const bool plain = end != std::string_view::npos && !body.empty() && body[0] != ',' &&
                       body.find_first_not_of("0123456789,") == std::string_view::npos &&
                       std::count(body.begin(), body.end(), ',') <= 1;
    if (!plain) Refuse(fmt::format("the interval '{{{}'", body.substr(0, 12)));
    out_ += '{';
    out_ += body;
    out_ += '}';
    rest_.remove_prefix(end + 1);
    RefuseSecondQuantifier();
  }

  void RefuseSecondQuantifier() const {
    if (!rest_.empty() && std::string_view("?*+{").find(rest_[0]) != std::string_view::npos) {
      Refuse(fmt::format("'{}' after a quantifier", rest_[0]));
    }
  }

  void EscapeOutside() {
    const char c = TakeOne("a lone '\\'");
    if (c == 's' || c == 'S') {
      out_ += fmt::format("[{}{}]", c == 'S' ? "^" : "", WhiteSpace());
    } else if (c == 'p' || c == 'P') {
      out_ += fmt::format("[{}{}]", c == 'P' ? "^" : "", Category());
    } else {
      EscapedLiteral(c);
    }
  }

  // After \p or \P: the inside of a class that is the category.
  std::string Category() {
    const std::size_t end = rest_.find('}');
    if (!rest_.starts_with('{') || end == std::string_view::npos) Refuse("a \\p without {category}");
    const std::string_view category = rest_.substr(1, end - 1);
    const std::string_view added = AddedSinceUnicode14(category);
    if (added.empty()) Refuse(fmt::format("the property '{}'", category));
    rest_.remove_prefix(end + 1);
    return fmt::format("\\p{{{}}}{}", category, added);
  }

  void EscapedLiteral(char c) {
    const bool control = std::string_view("tnrf").find(c) != std::string_view::npos;
    const bool punctuation = std::ispunct(static_cast<unsigned char>(c)) != 0;
    if (!control && !punctuation) Refuse(fmt::format("the escape '\\{}'", c));
    out_ += '\\';
    out_ += c;
  }

  void Class() {
    out_ += '[';
    if (Take("^")) out_ += '^';
    if (rest_.starts_with(']')) Refuse("an empty class");
    for (;;) {
      const char c = TakeOne("a class without its ']'");
      if (c == ']') break;
      if (c == '[') Refuse("a '[' inside a class");
      if (c == '&' && rest_.starts_with('&')) Refuse("'&&' inside a class");
      if (c == '\\') {
        EscapeInside();
      } else {
        out_ += c;
      }
    }
    out_ += ']';
  }

  void EscapeInside() {
    const char c = TakeOne("a lone '\\'");
    if (c == 's') {
      out_ += WhiteSpace();
    } else if (c == 'p') {
      out_ += Category();
    } else {
      EscapedLiteral(c);
      return;
    }
    if (rest_.starts_with('-') && !rest_.starts_with("-]"))
      Refuse("'-' after a set of characters in a class");
  }

  std::string_view rest_;
  std::string_view where_;
  std::string out_;
  std::vector<bool> groups_;  // open groups; true: letter case is ignored
};

}  // namespace

std::string PatternForPcre2(std::string_view pattern, std::string_view where) {
  return Rewriter(pattern, where).Run();
}

}  // namespace sluice::text
