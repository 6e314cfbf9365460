#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::checkpoint {

// What is wrong with a checkpoint directory: one sentence each, in the order it was found. Checks add to it
// and go on, so that one run names everything.
class Defects {
 public:
  template <typename... Args>
  void Add(fmt::format_string<Args...> format, Args&&... args) {
    sentences_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  const std::vector<std::string>& sentences() const { return sentences_; }
  bool empty() const { return sentences_.empty(); }
  // Throws Error(kModelFiles) with the first sentence, if there is one.
  void ThrowFirst() const;

 private:
  std::vector<std::string> sentences_;
};

// A name or value from a file as it may be shown on a terminal: control characters and bytes that are not
// UTF-8 escaped, at most 200 characters.
std::string Shown(std::string_view text);

}  // namespace sluice::checkpoint
