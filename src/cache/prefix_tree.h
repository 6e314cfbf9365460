#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ops/cache_format.h"

namespace sluice::cache {

// Which text lies in which page. A node is a full page: its 64 tokens at the positions after its parent's.
// The same page number holds a node's latents and its index keys, in every layer of every rank, so a node
// found is both. Texts of different salts share nothing.
//
// A node may be held by any number of sequences; who holds a node holds its ancestors as well, so below a
// node that nobody holds there is none that is held. Those are given up one by one, leaves first, the longest
// unused first. Pure bookkeeping: a function of the calls before.
class PrefixTree {
 public:
  static constexpr int32_t kNone = -1;

  // Of pages 0..pages - 1.
  explicit PrefixTree(int64_t pages);

  // The nodes of the longest beginning of `tokens` that is here, in order, at most `most` of them.
  std::vector<int32_t> Find(const std::string& salt, std::span<const int32_t> tokens, int64_t most) const;
  // Adds a holder to each of these nodes, which Find has given: a path from the first level on.
  void Hold(std::span<const int32_t> path);
  // The 64 `tokens` that follow `parent` (kNone: at the beginning), which the caller holds, lie in `page`.
  // The node that holds them, with the caller as a holder: `page`, which is the tree's from now on, or the
  // one that was here before, and then `page` remains the caller's. kNone when another text has the same
  // place in the index: this one cannot be kept.
  int32_t Add(const std::string& salt, int32_t parent, std::span<const int32_t> tokens, int32_t page);
  // Takes a holder from each of these nodes, a path from the first level on.
  void Release(std::span<const int32_t> path);
  // Gives up the longest unused leaf that nobody holds: its page is the caller's. kNone: there is none.
  int32_t Evict();

  // Nodes; those that nobody holds, all of which Evict can give up; holders of a node.
  int64_t size() const { return size_; }
  int64_t unheld() const { return unheld_; }
  int64_t holders(int32_t page) const { return nodes_[page].holders; }

 private:
  // A first-level node's parent is its salt's number, below kNone.
  struct Key {
    int64_t parent = 0;
    uint64_t hash = 0;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return key.hash ^ (static_cast<uint64_t>(key.parent) * kMixer);
    }
    static constexpr uint64_t kMixer = 0x9e3779b97f4a7c15U;
  };
  struct Node {
    Key key;
    int64_t last_used = 0;
    int64_t children = 0;
    int64_t holders = 0;
    bool here = false;
  };
  struct Salt {
    int64_t number = 0;
    int64_t children = 0;
  };

  bool Holds(int32_t page, std::span<const int32_t> tokens) const;
  // An unheld node without children can be given up next.
  void NoteLeaf(int32_t page);

  std::vector<Node> nodes_;            // by page
  std::unique_ptr<int32_t[]> tokens_;  // 64 of each page; written, and so committed, only for nodes
  std::unordered_map<Key, int32_t, KeyHash> index_;
  std::unordered_map<std::string, Salt> salts_;  // that have nodes
  std::unordered_map<int64_t, std::string> salt_of_number_;
  std::set<std::pair<int64_t, int32_t>> leaves_;  // (last use, page) of what Evict may give up now
  int64_t next_salt_ = kNone - 1;
  int64_t clock_ = 0;  // counts calls of Release
  int64_t size_ = 0;
  int64_t unheld_ = 0;
};

}  // namespace sluice::cache
