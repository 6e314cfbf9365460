#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache/prefix_tree.h"
#include "schedule/page_pool.h"

namespace sluice::schedule {

// What one sequence holds.
struct HeldPages {
  std::vector<int32_t> table;  // the page of positions 64 i .. 64 i + 63, by i
  // The nodes of the prefix tree for its first pages. Node i is table[i], or another page of the same text,
  // which somebody else has computed meanwhile.
  std::vector<int32_t> path;
  bool sealed = false;  // nothing more of it can be kept (PrefixTree::Add)
};

// Every page is free, cached or held: free in the pool; cached in the prefix tree for whoever asks for its
// text again, and given up when pages are needed; held by sequences. free + cached + held = all.
class PageKeeper {
 public:
  // Without `keeps_prefixes` no page is ever cached or shared.
  PageKeeper(int64_t pages, bool keeps_prefixes);

  int64_t pages() const { return pool_.pages(); }
  int64_t free() const { return pool_.free(); }
  int64_t cached() const { return tree_.unheld(); }
  int64_t available() const { return free() + cached(); }
  bool keeps_prefixes() const { return keeps_prefixes_; }
  // Pages ever added to the tree.
  int64_t commits() const { return commits_; }

  // The longest beginning of `tokens` whose pages are here, at most `most` pages.
  std::vector<int32_t> Find(const std::string& salt, std::span<const int32_t> tokens, int64_t most) const;
  // Takes `path`, which Find has just given, and new pages up to `count` in all. False, and nothing is taken,
  // when fewer than `spare` pages would be left available.
  bool Start(HeldPages& held, std::vector<int32_t> path, int64_t count, int64_t spare);
  // One page more. False: there is none.
  bool Grow(HeldPages& held);
  // Gives back the last page of a table, in which nothing is written yet.
  void Shrink(HeldPages& held);
  // The first `full` pages of the table are written, by steps that are published: from now on others may read
  // them. `tokens` is the text from its beginning.
  void Commit(HeldPages& held, const std::string& salt, std::span<const int32_t> tokens, int64_t full);
  // How many pages Return would make available.
  int64_t WouldReturn(const HeldPages& held) const;
  void Return(HeldPages& held);
  // Frees all that is cached.
  void Flush();

 private:
  int32_t TakeOne();

  bool keeps_prefixes_;
  PagePool pool_;
  cache::PrefixTree tree_;
  int64_t commits_ = 0;
};

}  // namespace sluice::schedule
