#include "cache/prefix_tree.h"

#include <algorithm>
#include <functional>
#include <string_view>

#include "base/error.h"

namespace sluice::cache {
namespace {

uint64_t HashOf(std::span<const int32_t> tokens) {
  return std::hash<std::string_view>{}({reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes()});
}

std::span<const int32_t> PageOf(std::span<const int32_t> tokens, int64_t place) {
  return tokens.subspan(static_cast<size_t>(place * ops::kPageTokens), ops::kPageTokens);
}

}  // namespace

PrefixTree::PrefixTree(int64_t pages)
    : nodes_(static_cast<size_t>(pages)),
      tokens_(std::make_unique_for_overwrite<int32_t[]>(static_cast<size_t>(pages * ops::kPageTokens))) {}

bool PrefixTree::Holds(int32_t page, std::span<const int32_t> tokens) const {
  return std::equal(tokens.begin(), tokens.end(), tokens_.get() + int64_t{page} * ops::kPageTokens);
}

std::vector<int32_t> PrefixTree::Find(const std::string& salt, std::span<const int32_t> tokens,
                                      int64_t most) const {
  std::vector<int32_t> path;
  const auto of_salt = salts_.find(salt);
  if (of_salt == salts_.end()) return path;
  int64_t parent = of_salt->second.number;
  most = std::min(most, static_cast<int64_t>(tokens.size()) / ops::kPageTokens);
  while (static_cast<int64_t>(path.size()) < most) {
    const auto page_tokens = PageOf(tokens, static_cast<int64_t>(path.size()));
    const auto found = index_.find({parent, HashOf(page_tokens)});
    if (found == index_.end() || !Holds(found->second, page_tokens)) break;
    path.push_back(found->second);
    parent = found->second;
  }
  return path;
}

void PrefixTree::Hold(std::span<const int32_t> path) {
  for (const int32_t page : path) {
    Node& node = nodes_[page];
    SLUICE_CHECK(node.here, "page {} is not in the tree", page);
    if (node.holders++ > 0) continue;
    --unheld_;
    if (node.children == 0) leaves_.erase({node.last_used, page});
  }
}

int32_t PrefixTree::Add(const std::string& salt, int32_t parent, std::span<const int32_t> tokens,
                        int32_t page) {
  SLUICE_CHECK(std::ssize(tokens) == ops::kPageTokens, "a page of {} tokens", tokens.size());
  SLUICE_CHECK(parent == kNone || nodes_[parent].holders > 0, "page {} is added below one not held", page);
  int64_t above = parent;
  if (parent == kNone) {
    const auto [of_salt, is_new] = salts_.try_emplace(salt);
    if (is_new) {
      of_salt->second.number = next_salt_--;
      salt_of_number_.emplace(of_salt->second.number, salt);
    }
    above = of_salt->second.number;
  }
  const Key key{above, HashOf(tokens)};
  const auto [place, is_new] = index_.try_emplace(key, page);
  const int32_t there = place->second;
  if (!is_new) {
    if (!Holds(there, tokens)) return kNone;
    Hold({&there, 1});
    return there;
  }
  Node& node = nodes_[page];
  SLUICE_CHECK(!node.here, "page {} is in the tree already", page);
  node = {key, clock_, 0, 1, true};
  std::ranges::copy(tokens, tokens_.get() + int64_t{page} * ops::kPageTokens);
  if (parent == kNone) {
    ++salts_.at(salt).children;
  } else {
    ++nodes_[parent].children;
  }
  ++size_;
  return page;
}

void PrefixTree::NoteLeaf(int32_t page) {
  const Node& node = nodes_[page];
  if (node.holders == 0 && node.children == 0) leaves_.emplace(node.last_used, page);
}

void PrefixTree::Release(std::span<const int32_t> path) {
  ++clock_;
  for (const int32_t page : path) {
    Node& node = nodes_[page];
    SLUICE_CHECK(node.here && node.holders > 0, "page {} is not held", page);
    node.last_used = clock_;
    if (--node.holders > 0) continue;
    ++unheld_;
    NoteLeaf(page);
  }
}

int32_t PrefixTree::Evict() {
  if (leaves_.empty()) return kNone;
  const int32_t page = leaves_.begin()->second;
  leaves_.erase(leaves_.begin());
  Node& node = nodes_[page];
  index_.erase(node.key);
  node.here = false;
  --size_;
  --unheld_;
  const int64_t parent = node.key.parent;
  if (parent >= 0) {
    --nodes_[parent].children;
    NoteLeaf(static_cast<int32_t>(parent));
  } else {
    const auto name = salt_of_number_.find(parent);
    const auto salt = salts_.find(name->second);
    if (--salt->second.children == 0) {
      salts_.erase(salt);
      salt_of_number_.erase(name);
    }
  }
  return page;
}

}  // namespace sluice::cache
