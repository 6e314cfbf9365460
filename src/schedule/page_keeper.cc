#include "schedule/page_keeper.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace sluice::schedule {

using cache::PrefixTree;

PageKeeper::PageKeeper(int64_t pages, bool keeps_prefixes)
    : keeps_prefixes_(keeps_prefixes), pool_(pages), tree_(keeps_prefixes ? pages : 0) {}

std::vector<int32_t> PageKeeper::Find(const std::string& salt, std::span<const int32_t> tokens,
                                      int64_t most) const {
  if (!keeps_prefixes_) return {};
  return tree_.Find(salt, tokens, most);
}

int32_t PageKeeper::TakeOne() {
  if (pool_.free() == 0) {
    const int32_t page = tree_.Evict();
    SLUICE_CHECK(page != PrefixTree::kNone, "no page is free or cached");
    pool_.Return({&page, 1});
  }
  return pool_.Take(1).front();
}

bool PageKeeper::Start(HeldPages& held, std::vector<int32_t> path, int64_t count, int64_t spare) {
  SLUICE_CHECK(held.table.empty() && held.path.empty(), "the sequence holds pages already");
  const int64_t needed = count - std::ssize(path);
  const int64_t cached = std::ranges::count_if(path, [&](int32_t page) { return tree_.holders(page) == 0; });
  if (needed + spare > available() - cached) return false;
  if (!path.empty()) tree_.Hold(path);
  held.table = path;
  held.path = std::move(path);
  if (needed <= pool_.free()) {
    const std::vector<int32_t> taken = pool_.Take(needed);
    held.table.insert(held.table.end(), taken.begin(), taken.end());
  } else {
    for (int64_t i = 0; i < needed; ++i) held.table.push_back(TakeOne());
  }
  return true;
}

bool PageKeeper::Grow(HeldPages& held) {
  if (available() == 0) return false;
  held.table.push_back(TakeOne());
  return true;
}

void PageKeeper::Shrink(HeldPages& held) {
  SLUICE_CHECK(held.table.size() > held.path.size(), "the last page is shared");
  pool_.Return({&held.table.back(), 1});
  held.table.pop_back();
}

void PageKeeper::Commit(HeldPages& held, const std::string& salt, std::span<const int32_t> tokens,
                        int64_t full) {
  if (!keeps_prefixes_) return;
  while (!held.sealed && std::ssize(held.path) < full) {
    const size_t place = held.path.size();
    const int32_t parent = place == 0 ? PrefixTree::kNone : held.path.back();
    const int32_t node = tree_.Add(salt, parent, tokens.subspan(place * ops::kPageTokens, ops::kPageTokens),
                                   held.table[place]);
    held.sealed = node == PrefixTree::kNone;
    if (held.sealed) return;
    held.path.push_back(node);
    ++commits_;
  }
}

int64_t PageKeeper::WouldReturn(const HeldPages& held) const {
  int64_t pages = std::ssize(held.table);
  for (size_t i = 0; i < held.path.size(); ++i) {
    if (held.table[i] == held.path[i] && tree_.holders(held.path[i]) > 1) --pages;
  }
  return pages;
}

void PageKeeper::Return(HeldPages& held) {
  if (!held.path.empty()) tree_.Release(held.path);
  for (size_t i = 0; i < held.table.size(); ++i) {
    if (i < held.path.size() && held.table[i] == held.path[i]) continue;
    pool_.Return({&held.table[i], 1});
  }
  held = {};
}

void PageKeeper::Flush() {
  for (int32_t page = tree_.Evict(); page != PrefixTree::kNone; page = tree_.Evict()) {
    pool_.Return({&page, 1});
  }
}

}  // namespace sluice::schedule
