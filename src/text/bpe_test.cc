#include "text/bpe.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <numeric>
#include <random>
#include <string>

namespace sluice::text {
namespace {

std::array<int32_t, 256> PlainByteIds() {
  std::array<int32_t, 256> ids;
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

// Random rules over the letters a..d and what comes of them: many overlaps, many equal candidates.
std::vector<MergeRule> RandomRules(std::mt19937& random, int count) {
  std::vector<int32_t> symbols = {'a', 'b', 'c', 'd'};
  std::map<std::pair<int32_t, int32_t>, bool> seen;
  std::vector<MergeRule> rules;
  while (static_cast<int>(rules.size()) < count) {
    const auto pick = [&] { return symbols[random() % symbols.size()]; };
    const MergeRule rule{pick(), pick(), 256 + static_cast<int32_t>(rules.size())};
    if (seen[{rule.left, rule.right}]) continue;
    seen[{rule.left, rule.right}] = true;
    symbols.push_back(rule.merged);
    rules.push_back(rule);
  }
  return rules;
}

// The definition, word for word: find the first rule that applies anywhere, apply it at its leftmost place.
std::vector<int32_t> Definition(const std::vector<MergeRule>& rules, std::string_view piece) {
  std::vector<int32_t> ids(piece.begin(), piece.end());
  for (bool changed = true; changed;) {
    changed = false;
    for (const MergeRule& rule : rules) {
      for (std::size_t i = 0; i + 1 < ids.size() && !changed; ++i) {
        if (ids[i] != rule.left || ids[i + 1] != rule.right) continue;
        ids[i] = rule.merged;
        ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        changed = true;
      }
      if (changed) break;
    }
  }
  return ids;
}

TEST(Bpe, EqualsTheDefinitionForShortAndLongPieces) {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    const auto rules = RandomRules(random, 5 + static_cast<int>(random() % 60));
    const Bpe bpe(PlainByteIds(), rules);
    for (const std::size_t length : {0, 1, 2, 3, 7, 20, 47, 48, 49, 50, 90, 200}) {
      std::string piece;
      const auto letters = 1 + random() % 4;
      for (std::size_t i = 0; i < length; ++i) piece.push_back(static_cast<char>('a' + random() % letters));
      std::vector<int32_t> ids;
      bpe.Encode(piece, ids);
      ASSERT_EQ(ids, Definition(rules, piece)) << piece;
    }
  }
}

TEST(Bpe, AppendsAndKeepsHighBytes) {
  const Bpe bpe(PlainByteIds(), {});
  std::vector<int32_t> ids = {9};
  bpe.Encode("\xFF\x80z", ids);
  EXPECT_EQ(ids, (std::vector<int32_t>{9, 255, 128, 'z'}));
}

// A quadratic method would take minutes.
TEST(Bpe, AWordOfAMegabyteIsNoTrouble) {
  std::mt19937 random(12);
  const auto rules = RandomRules(random, 500);
  const Bpe bpe(PlainByteIds(), rules);
  for (const unsigned letters : {1U, 4U}) {
    std::string piece(1 << 20, 'a');
    for (char& c : piece) c = static_cast<char>('a' + random() % letters);
    const auto start = std::chrono::steady_clock::now();
    std::vector<int32_t> ids;
    bpe.Encode(piece, ids);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
    EXPECT_LE(ids.size(), piece.size());
  }
}

}  // namespace
}  // namespace sluice::text
