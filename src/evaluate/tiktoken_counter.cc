#include "evaluate/tiktoken_counter.h"

#include <charconv>
#include <limits>
#include <optional>
#include <vector>

#include "base/error.h"
#include "evaluate/data_files.h"

namespace sluice::evaluate {
namespace {

// How cl100k_base cuts a text into pieces before any pair is joined.
constexpr std::string_view kPieces =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::optional<std::string> FromBase64(std::string_view text) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = (bits << 6U) | static_cast<uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>((bits >> static_cast<uint32_t>(count)) & 0xFFU);
  }
  return bytes;
}

}  // namespace

TiktokenCounter::TiktokenCounter(const std::filesystem::path& table)
    : pattern_(kPieces, "the pattern of cl100k_base") {
  const std::string text = ReadFile(table, "--tiktoken is the file cl100k_base.tiktoken");
  ForEachLine(text, [&](std::string_view line, int64_t number) {
    const std::size_t space = line.find(' ');
    const auto token = FromBase64(line.substr(0, space));
    int32_t rank = -1;
    if (space != std::string_view::npos) {
      std::from_chars(line.data() + space + 1, line.data() + line.size(), rank);
    }
    if (!token || token->empty() || rank < 0) {
      Fail(ErrorKind::kUsage,
           "{}:{} is not a token in base 64 and its rank; --tiktoken is the file "
           "cl100k_base.tiktoken",
           table.string(), number);
    }
    ranks_[*token] = rank;
  });
  for (int byte = 0; byte < 256; ++byte) {
    if (!ranks_.contains(std::string(1, static_cast<char>(byte)))) {
      Fail(ErrorKind::kUsage, "{} has no token for the byte {}; --tiktoken is the file cl100k_base.tiktoken",
           table.string(), byte);
    }
  }
}

// Of all neighbours those that join to the token of lowest rank, the leftmost first, until none join.
int64_t TiktokenCounter::CountPiece(std::string_view piece) const {
  std::vector<std::size_t> begins;  // of the parts, and the piece's end
  for (std::size_t i = 0; i <= piece.size(); ++i) begins.push_back(i);
  for (;;) {
    int32_t lowest = std::numeric_limits<int32_t>::max();
    std::size_t where = 0;
    for (std::size_t i = 0; i + 2 < begins.size(); ++i) {
      const auto found = ranks_.find(std::string(piece.substr(begins[i], begins[i + 2] - begins[i])));
      if (found == ranks_.end() || found->second >= lowest) continue;
      lowest = found->second;
      where = i + 1;
    }
    if (where == 0) return static_cast<int64_t>(begins.size()) - 1;
    begins.erase(begins.begin() + static_cast<std::ptrdiff_t>(where));
  }
}

int64_t TiktokenCounter::Count(std::string_view text) const {
  text::MatchScratch scratch;
  int64_t count = 0;
  pattern_.Split(text, scratch, [&](std::string_view piece) { count += CountPiece(piece); });
  return count;
}

}  // namespace sluice::evaluate
