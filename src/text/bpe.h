#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sluice::text {

// One rule of byte-pair encoding: neighbours `left`, `right` become `merged`. A rule's rank is its place in
// the list; a lower rank goes first.
struct MergeRule {
  int32_t left;
  int32_t right;
  int32_t merged;
};

// Byte-pair encoding of one pre-token: the bytes become one symbol each, then, again and again, the
// neighbouring pair of lowest rank (the leftmost one among equals) is joined, until no rule applies.
// Time: O(n^2) with a small constant for short pieces, O(n log n) for long ones; memory O(n). Constant after
// construction, so any number of threads may encode.
class Bpe {
 public:
  // `byte_ids[b]` is the id of the one-byte token b. Every pair may occur once (checked by the reader of the
  // file); ids are not negative.
  Bpe(const std::array<int32_t, 256>& byte_ids, const std::vector<MergeRule>& rules);

  // Appends the ids of `piece` to `out`.
  void Encode(std::string_view piece, std::vector<int32_t>& out) const;

 private:
  struct Slot {
    uint64_t pair = kNoPair;
    int32_t rank = 0;
    int32_t merged = 0;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};

  const Slot* Find(int32_t left, int32_t right) const;
  void EncodeShort(std::string_view piece, std::vector<int32_t>& out) const;
  void EncodeLong(std::string_view piece, std::vector<int32_t>& out) const;

  std::array<int32_t, 256> byte_ids_;
  std::vector<Slot> slots_;  // open addressing, at most half full
  int shift_;                // 64 - log2(slots)
};

}  // namespace sluice::text
