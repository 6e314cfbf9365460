#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice::schedule {

// The cache pages 0..pages-1 of every rank: each is free or in use by one owner, in use + free = pages.
// Which page is handed out next is a pure function of the calls before.
class PagePool {
 public:
  // 0 <= pages < 2^31.
  explicit PagePool(int64_t pages);

  int64_t pages() const { return static_cast<int64_t>(in_use_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  int64_t used() const { return used_; }

  // `count` pages, 0 <= count <= free().
  std::vector<int32_t> Take(int64_t count);
  // Takes back pages that Take gave. Any other page, or one twice, is an Error(kInternal).
  void Return(std::span<const int32_t> pages);

 private:
  std::vector<int32_t> free_;  // the last is handed out next
  std::vector<bool> in_use_;   // by page
  int64_t used_ = 0;
};

}  // namespace sluice::schedule
