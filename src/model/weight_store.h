#pragma once

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "ops/ops.h"

namespace sluice::model {

// A packed matrix or group of matrices; ranks of one process may hold the same one.
using WeightPtr = std::shared_ptr<const ops::Weight>;
using WeightGroupPtr = std::shared_ptr<const ops::WeightGroup>;

// What one store and one memory plan call the same weight: rows [first_row, end_row) and columns [first_col,
// end_col) of a tensor of the checkpoint.
std::string WeightKey(std::string_view tensor, int64_t first_row, int64_t end_row, int64_t first_col,
                      int64_t end_col);

// Packed weights that ranks of one process hold alike, each once: lanes of a stage have the same attention,
// indexer, router, shared expert and dense MLP. All ranks that use a store compute with back ends of one kind
// and numerics, in one memory. Any thread. What was packed lives as long as the store.
class WeightStore {
 public:
  using Packed = std::shared_ptr<const void>;

  // What the first caller with this key makes. Others that ask meanwhile wait for it; they get its error,
  // too.
  template <typename T>
  std::shared_ptr<const T> Get(const std::string& key,
                               const std::function<std::shared_ptr<const T>()>& make) {
    return std::static_pointer_cast<const T>(GetAny(key, [&make]() -> Packed { return make(); }));
  }

 private:
  Packed GetAny(const std::string& key, const std::function<Packed()>& make);

  std::mutex mutex_;
  std::map<std::string, std::shared_future<Packed>> packed_;
};

}  // namespace sluice::model
