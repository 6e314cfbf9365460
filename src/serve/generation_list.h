#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "serve/errors.h"

namespace sluice::serve {

class Generation;

// The generations that are under way, so that all of them can be ended with one error. Thread-safe.
class GenerationList {
 public:
  // Throws the error of Close when the list is closed, and kQueueFull beyond `max_prompts`.
  void Add(std::shared_ptr<Generation> generation, int64_t prompts, int64_t max_prompts);
  void Remove(const Generation* generation);
  // Ends every generation with `error`, and refuses all that come later. The first error stays.
  void Close(const ApiError& error);
  // From now on Add throws `error`; what is under way goes on.
  void Refuse(const ApiError& error);
  // Ends the generations named `name`, every one without a name, with `error`. Returns how many.
  std::size_t Abort(const std::optional<std::string>& name, const ApiError& error);
  bool empty() const;
  // What Add throws at present.
  std::optional<ApiError> refusal() const;

 private:
  struct Entry {
    std::shared_ptr<Generation> generation;
    int64_t prompts;
  };
  mutable std::mutex mutex_;
  std::unordered_map<const Generation*, Entry> entries_;
  int64_t prompts_ = 0;
  std::optional<ApiError> refused_;
  std::optional<ApiError> closed_;
};

}  // namespace sluice::serve
