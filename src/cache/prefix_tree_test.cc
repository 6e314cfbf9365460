#include "cache/prefix_tree.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/error.h"

namespace sluice::cache {
namespace {

using Path = std::vector<int32_t>;

// Pages of one token each, 64 times over.
std::vector<int32_t> Text(std::initializer_list<int32_t> pages) {
  std::vector<int32_t> text;
  for (const int32_t token : pages) text.insert(text.end(), ops::kPageTokens, token);
  return text;
}

int32_t AddPage(PrefixTree& tree, int32_t parent, int32_t token, int32_t page, const std::string& salt = "") {
  return tree.Add(salt, parent, Text({token}), page);
}

TEST(PrefixTree, FindsTheLongestBeginningInFullPages) {
  PrefixTree tree(10);
  EXPECT_EQ(AddPage(tree, PrefixTree::kNone, 7, 3), 3);
  EXPECT_EQ(AddPage(tree, 3, 8, 5), 5);
  EXPECT_EQ(AddPage(tree, 3, 9, 6), 6);
  EXPECT_EQ(tree.Find("", Text({7, 8, 1}), 9), (Path{3, 5}));
  EXPECT_EQ(tree.Find("", Text({7, 9}), 9), (Path{3, 6}));
  EXPECT_EQ(tree.Find("", Text({7, 8}), 1), (Path{3}));
  EXPECT_EQ(tree.Find("", Text({8}), 9), Path{});
  std::vector<int32_t> short_of_one = Text({7, 8});
  short_of_one.pop_back();
  EXPECT_EQ(tree.Find("", short_of_one, 9), (Path{3}));
  std::vector<int32_t> last_differs = Text({7, 8});
  last_differs.back() = 0;
  EXPECT_EQ(tree.Find("", last_differs, 9), (Path{3}));
}

TEST(PrefixTree, SaltsShareNothing) {
  PrefixTree tree(10);
  AddPage(tree, PrefixTree::kNone, 7, 3, "mine");
  EXPECT_EQ(tree.Find("mine", Text({7}), 9), (Path{3}));
  EXPECT_EQ(tree.Find("", Text({7}), 9), Path{});
  EXPECT_EQ(tree.Find("yours", Text({7}), 9), Path{});
  EXPECT_EQ(AddPage(tree, PrefixTree::kNone, 7, 4, "yours"), 4);
  tree.Release(Path{3});
  EXPECT_EQ(tree.Evict(), 3);
  EXPECT_EQ(tree.Find("mine", Text({7}), 9), Path{});
  EXPECT_EQ(tree.Find("yours", Text({7}), 9), (Path{4}));
}

TEST(PrefixTree, ATextThatIsHereKeepsItsPage) {
  PrefixTree tree(10);
  EXPECT_EQ(AddPage(tree, PrefixTree::kNone, 7, 3), 3);
  EXPECT_EQ(AddPage(tree, PrefixTree::kNone, 7, 4), 3) << "4 remains the caller's";
  EXPECT_EQ(tree.holders(3), 2);
  EXPECT_EQ(tree.size(), 1);
}

TEST(PrefixTree, GivesUpTheLongestUnusedLeafThatNobodyHolds) {
  PrefixTree tree(10);
  AddPage(tree, PrefixTree::kNone, 1, 0);
  AddPage(tree, 0, 2, 1);  // held by the first
  AddPage(tree, PrefixTree::kNone, 1, 9);
  AddPage(tree, 0, 3, 2);  // by the second
  AddPage(tree, PrefixTree::kNone, 4, 3);
  EXPECT_EQ(tree.Evict(), PrefixTree::kNone) << "all are held";
  tree.Release(Path{0, 2});
  EXPECT_EQ(tree.unheld(), 1);
  tree.Release(Path{3});
  tree.Release(Path{0, 1});
  EXPECT_EQ(tree.unheld(), 4);
  // A hit keeps its path, and makes it the latest when it is let go.
  const Path hit = tree.Find("", Text({1, 3}), 9);
  tree.Hold(hit);
  EXPECT_EQ(tree.Evict(), 3);
  EXPECT_EQ(tree.Evict(), 1);
  EXPECT_EQ(tree.Evict(), PrefixTree::kNone);
  tree.Release(hit);
  EXPECT_EQ(tree.Evict(), 2) << "leaves first";
  EXPECT_EQ(tree.Evict(), 0);
  EXPECT_EQ(tree.size(), 0);
}

TEST(PrefixTree, MisuseIsAnErrorOfOurs) {
  PrefixTree tree(10);
  AddPage(tree, PrefixTree::kNone, 1, 0);
  EXPECT_THROW(AddPage(tree, PrefixTree::kNone, 2, 0), Error) << "the page is a node";
  EXPECT_THROW(tree.Hold(Path{5}), Error);
  tree.Release(Path{0});
  EXPECT_THROW(tree.Release(Path{0}), Error);
  EXPECT_THROW(AddPage(tree, 0, 2, 1), Error) << "below a node not held";
}

// Against a map from whole texts to pages.
TEST(PrefixTree, RandomTextsAreFoundAsAMapOfBeginningsFindsThem) {
  constexpr int32_t kPages = 40;
  std::mt19937 random(5);
  const auto pick = [&](int most) { return std::uniform_int_distribution<int>(0, most)(random); };
  PrefixTree tree(kPages);
  std::map<std::vector<int32_t>, int32_t> pages;  // of a beginning, its last page
  std::vector<int32_t> free;
  for (int32_t page = 0; page < kPages; ++page) free.push_back(page);
  std::vector<Path> held;
  int64_t found = 0;
  int64_t evicted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<int32_t> text;
    for (int length = 1 + pick(4); length > 0; --length) {
      const auto page = Text({pick(2)});
      text.insert(text.end(), page.begin(), page.end());
    }
    Path expected;
    for (auto end = text.begin() + ops::kPageTokens;; end += ops::kPageTokens) {
      const auto known = pages.find({text.begin(), end});
      if (known == pages.end()) break;
      expected.push_back(known->second);
      if (end == text.end()) break;
    }
    Path path = tree.Find("", text, 9);
    ASSERT_EQ(path, expected);
    found += std::ssize(path);
    tree.Hold(path);
    while (std::ssize(path) * ops::kPageTokens < std::ssize(text)) {
      if (free.empty()) {
        const int32_t page = tree.Evict();
        if (page == PrefixTree::kNone) break;
        ++evicted;
        std::erase_if(pages, [&](const auto& of) { return of.second == page; });
        free.push_back(page);
      }
      const auto begin = text.begin() + std::ssize(path) * ops::kPageTokens;
      const std::vector<int32_t> tokens(begin, begin + ops::kPageTokens);
      const int32_t page = free.back();
      free.pop_back();
      ASSERT_EQ(tree.Add("", path.empty() ? PrefixTree::kNone : path.back(), tokens, page), page);
      path.push_back(page);
      pages[{text.begin(), begin + ops::kPageTokens}] = page;
    }
    held.push_back(std::move(path));
    if (held.size() > 6) {
      const auto which = held.begin() + pick(5);
      tree.Release(*which);
      held.erase(which);
    }
    ASSERT_EQ(tree.size(), std::ssize(pages));
    ASSERT_EQ(tree.size() + std::ssize(free), kPages);
  }
  EXPECT_GT(found, 10000);
  EXPECT_GT(evicted, 1000);
}

}  // namespace
}  // namespace sluice::cache
