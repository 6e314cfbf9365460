#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>

#include "text/split_pattern.h"

namespace sluice::evaluate {

// How many tokens a text has in OpenAI's cl100k_base encoding, by whose count the reference's mmlu tool
// leaves examples out. The table, cl100k_base.tiktoken, is a file of its user's: a token in base 64 and its
// rank a line.
class TiktokenCounter {
 public:
  // Error(kUsage) with the line for a file that is no such table.
  explicit TiktokenCounter(const std::filesystem::path& table);

  // `text` is UTF-8 and has no special tokens.
  int64_t Count(std::string_view text) const;

 private:
  int64_t CountPiece(std::string_view piece) const;

  std::unordered_map<std::string, int32_t> ranks_;
  text::SplitPattern pattern_;
};

}  // namespace sluice::evaluate
