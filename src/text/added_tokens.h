#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::text {

// Finds the added tokens (<think>, <｜User｜>, ...) in a text: the leftmost one, and the longest among those
// that begin there. Constant after construction.
class AddedTokenMatcher {
 public:
  struct Match {
    std::size_t begin;  // bytes
    std::size_t end;
    int32_t id;  // -1: no token; begin and end are then the text's size
  };

  // Texts are not empty and differ from each other.
  explicit AddedTokenMatcher(const std::vector<std::pair<std::string, int32_t>>& tokens);

  // The first token at or after byte `from`. Time: O(bytes passed x longest token), in practice O(bytes).
  Match Find(std::string_view text, std::size_t from) const;

  // Calls use(part, id) for the parts of `text` in order: id -1 is text between tokens, never empty.
  template <typename Use>
  void Split(std::string_view text, Use&& use) const {
    for (std::size_t at = 0; at < text.size();) {
      const Match match = Find(text, at);
      if (match.begin > at) use(text.substr(at, match.begin - at), int32_t{-1});
      if (match.id >= 0) use(text.substr(match.begin, match.end - match.begin), match.id);
      at = match.end;
    }
  }

 private:
  struct Node {
    int32_t id = -1;  // the token that ends here
    std::vector<std::pair<char, int32_t>> children;
  };
  int32_t Child(int32_t node, char byte) const;

  std::vector<Node> nodes_;  // a trie; 0 is the root
  std::array<bool, 256> starts_{};
};

}  // namespace sluice::text
