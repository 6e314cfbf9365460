#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <limits>
#include <queue>

namespace sluice::text {
namespace {

// Below this many bytes a scan for the lowest rank beats a heap.
constexpr std::size_t kShortPiece = 48;

constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();

uint64_t PairKey(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

uint64_t Scatter(uint64_t key) { return key * 0x9E3779B97F4A7C15U; }

}  // namespace

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<MergeRule>& rules)
    : byte_ids_(byte_ids) {
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(16, rules.size() * 2));
  slots_.resize(slots);
  shift_ = 64 - std::countr_zero(slots);
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const uint64_t key = PairKey(rules[i].left, rules[i].right);
    std::size_t at = Scatter(key) >> shift_;
    while (slots_[at].pair != kNoPair) at = (at + 1) & (slots - 1);
    slots_[at] = {key, static_cast<int32_t>(i), rules[i].merged};
  }
}

const Bpe::Slot* Bpe::Find(int32_t left, int32_t right) const {
  const uint64_t key = PairKey(left, right);
  for (std::size_t at = Scatter(key) >> shift_;; at = (at + 1) & (slots_.size() - 1)) {
    if (slots_[at].pair == key) return &slots_[at];
    if (slots_[at].pair == kNoPair) return nullptr;
  }
}

void Bpe::Encode(std::string_view piece, std::vector<int32_t>& out) const {
  if (piece.size() <= kShortPiece) {
    EncodeShort(piece, out);
  } else {
    EncodeLong(piece, out);
  }
}

void Bpe::EncodeShort(std::string_view piece, std::vector<int32_t>& out) const {
  std::array<int32_t, kShortPiece> ids;
  std::array<int32_t, kShortPiece> ranks;    // of the pair (i, i + 1)
  std::array<int32_t, kShortPiece> results;  // what that pair becomes
  std::size_t count = piece.size();
  const auto look_up = [&](std::size_t i) {
    const Slot* rule = i + 1 < count ? Find(ids[i], ids[i + 1]) : nullptr;
    ranks[i] = rule != nullptr ? rule->rank : kNoRank;
    results[i] = rule != nullptr ? rule->merged : 0;
  };
  for (std::size_t i = 0; i < count; ++i) ids[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
  for (std::size_t i = 0; i < count; ++i) look_up(i);

  while (count > 1) {
    const auto lowest = std::min_element(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(count));
    if (*lowest == kNoRank) break;
    const auto at = static_cast<std::size_t>(lowest - ranks.begin());
    ids[at] = results[at];
    --count;
    for (std::size_t i = at + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];
      results[i] = results[i + 1];
    }
    look_up(at);
    if (at > 0) look_up(at - 1);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
}

void Bpe::EncodeLong(std::string_view piece, std::vector<int32_t>& out) const {
  struct Symbol {
    int32_t id;  // -1 once joined to its left neighbour
    int64_t previous;
    int64_t next;
  };
  struct Candidate {
    int32_t rank;
    int64_t at;  // the left symbol
    int32_t left;
    int32_t right;
    int32_t merged;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  const auto count = static_cast<int64_t>(piece.size());
  std::vector<Symbol> symbols(piece.size());
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    symbols[at] = {byte_ids_[static_cast<unsigned char>(piece[at])], i - 1, i + 1 < count ? i + 1 : -1};
  }
  const auto symbol = [&](int64_t at) -> Symbol& { return symbols[static_cast<std::size_t>(at)]; };

  std::vector<Candidate> candidates;
  const auto add = [&](int64_t at, auto&& push) {
    if (at < 0 || symbol(at).next < 0) return;
    const int32_t left = symbol(at).id;
    const int32_t right = symbol(symbol(at).next).id;
    if (const Slot* rule = Find(left, right)) push(Candidate{rule->rank, at, left, right, rule->merged});
  };
  for (int64_t i = 0; i < count; ++i) add(i, [&](const Candidate& c) { candidates.push_back(c); });
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap(std::greater<>{},
                                                                              std::move(candidates));
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    Symbol& left = symbol(best.at);
    // A candidate is stale when either side has changed since it was pushed.
    if (left.id != best.left || left.next < 0 || symbol(left.next).id != best.right) continue;
    Symbol& right = symbol(left.next);
    left.id = best.merged;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) symbol(left.next).previous = best.at;
    add(left.previous, [&](const Candidate& c) { heap.push(c); });
    add(best.at, [&](const Candidate& c) { heap.push(c); });
  }
  for (int64_t i = 0; i >= 0; i = symbol(i).next) out.push_back(symbol(i).id);
}

}  // namespace sluice::text
