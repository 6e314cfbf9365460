#include "serve/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace sluice::serve {
namespace {

struct Result {
  std::string text;
  std::optional<std::string> matched;
};

// Plain definition: the earliest end of any stop string; the longest of those that end there.
Result Expected(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    const std::string* best = nullptr;
    for (const std::string& stop : stops) {
      const bool ends = end >= stop.size() && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (ends && (best == nullptr || stop.size() > best->size())) best = &stop;
    }
    if (best != nullptr) return {text.substr(0, end - best->size()), *best};
  }
  return {text, std::nullopt};
}

TEST(StopMatcher, EqualsThePlainDefinitionHoweverTheTextIsCut) {
  std::mt19937 random(7);
  const auto word = [&random](std::size_t longest) {
    std::string text(1 + random() % longest, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 3);
    return text;
  };
  for (int round = 0; round < 5000; ++round) {
    const std::string text = word(24);
    std::vector<std::string> stops;
    for (std::size_t i = random() % 4; i > 0; --i) stops.push_back(word(5));
    StopMatcher matcher(stops);
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = 1 + random() % 4;
      shown += matcher.Push(std::string_view(text).substr(at, length));
      at += length;
      // Nothing is let through that a stop string may still take back.
      const std::string seen = text.substr(0, std::min(at, text.size()));
      for (const std::string& stop : stops) {
        for (std::size_t k = 1; k < stop.size() && !matcher.matched(); ++k) {
          if (seen.size() >= k && seen.compare(seen.size() - k, k, stop, 0, k) == 0) {
            ASSERT_LE(shown.size(), seen.size() - k) << text << " | " << stop;
          }
        }
      }
    }
    if (!matcher.matched()) shown += matcher.Finish();
    const Result expected = Expected(text, stops);
    ASSERT_EQ(shown, expected.text) << text;
    ASSERT_EQ(matcher.matched(), expected.matched) << text;
  }
}

TEST(StopMatcher, LetsAmbiguousTextThroughAtOnceWhenItIsSettled) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.Push("aE"), "a");
  EXPECT_EQ(matcher.Push("N"), "");
  EXPECT_EQ(matcher.Push("x"), "ENx");
}

}  // namespace
}  // namespace sluice::serve
