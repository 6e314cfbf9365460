#include "schedule/page_pool.h"

#include <limits>

#include "base/error.h"

namespace sluice::schedule {

PagePool::PagePool(int64_t pages) {
  SLUICE_CHECK(pages >= 0 && pages <= std::numeric_limits<int32_t>::max(), "a pool of {} pages", pages);
  in_use_.resize(static_cast<size_t>(pages), false);
  free_.reserve(static_cast<size_t>(pages));
  for (int64_t page = pages - 1; page >= 0; --page) free_.push_back(static_cast<int32_t>(page));
}

std::vector<int32_t> PagePool::Take(int64_t count) {
  SLUICE_CHECK(count >= 0 && count <= free(), "{} pages wanted, {} free", count, free());
  std::vector<int32_t> taken(free_.rbegin(), free_.rbegin() + count);
  free_.resize(free_.size() - static_cast<size_t>(count));
  for (const int32_t page : taken) in_use_[page] = true;
  used_ += count;
  return taken;
}

void PagePool::Return(std::span<const int32_t> pages) {
  for (const int32_t page : pages) {
    SLUICE_CHECK(page >= 0 && page < this->pages() && in_use_[page], "page {} is not in use", page);
    in_use_[page] = false;
    free_.push_back(page);
    --used_;
  }
  SLUICE_CHECK(used() + free() == this->pages(), "{} pages in use, {} free", used(), free());
}

}  // namespace sluice::schedule
