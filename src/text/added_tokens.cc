#include "text/added_tokens.h"

#include "base/error.h"

namespace sluice::text {

AddedTokenMatcher::AddedTokenMatcher(const std::vector<std::pair<std::string, int32_t>>& tokens) : nodes_(1) {
  for (const auto& [text, id] : tokens) {
    SLUICE_CHECK(!text.empty(), "added token {} is empty", id);
    starts_[static_cast<unsigned char>(text[0])] = true;
    int32_t node = 0;
    for (const char byte : text) {
      int32_t child = Child(node, byte);
      if (child < 0) {
        child = static_cast<int32_t>(nodes_.size());
        nodes_[static_cast<std::size_t>(node)].children.emplace_back(byte, child);
        nodes_.emplace_back();
      }
      node = child;
    }
    nodes_[static_cast<std::size_t>(node)].id = id;
  }
}

int32_t AddedTokenMatcher::Child(int32_t node, char byte) const {
  for (const auto& [edge, child] : nodes_[static_cast<std::size_t>(node)].children) {
    if (edge == byte) return child;
  }
  return -1;
}

AddedTokenMatcher::Match AddedTokenMatcher::Find(std::string_view text, std::size_t from) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    Match longest{text.size(), text.size(), -1};
    int32_t node = 0;
    for (std::size_t at = begin; at < text.size(); ++at) {
      node = Child(node, text[at]);
      if (node < 0) break;
      const int32_t id = nodes_[static_cast<std::size_t>(node)].id;
      if (id >= 0) longest = {begin, at + 1, id};
    }
    if (longest.id >= 0) return longest;
  }
  return {text.size(), text.size(), -1};
}

}  // namespace sluice::text
