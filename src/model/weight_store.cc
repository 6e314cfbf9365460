#include "model/weight_store.h"

#include <fmt/format.h>

#include <utility>

namespace sluice::model {

std::string WeightKey(std::string_view tensor, int64_t first_row, int64_t end_row, int64_t first_col,
                      int64_t end_col) {
  return fmt::format("{} [{}, {}) x [{}, {})", tensor, first_row, end_row, first_col, end_col);
}

WeightStore::Packed WeightStore::GetAny(const std::string& key, const std::function<Packed()>& make) {
  std::promise<Packed> promise;
  {
    std::unique_lock lock(mutex_);
    const auto [found, mine] = packed_.try_emplace(key);
    if (!mine) {
      const std::shared_future<Packed> made = found->second;
      lock.unlock();
      return made.get();
    }
    found->second = promise.get_future().share();
  }
  try {
    Packed packed = make();
    promise.set_value(packed);
    return packed;
  } catch (...) {
    promise.set_exception(std::current_exception());
    throw;
  }
}

}  // namespace sluice::model
