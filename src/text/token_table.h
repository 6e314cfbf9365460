#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::text {

// Byte strings to ids, for some hundred thousand short strings: open addressing, at most half full.
class TokenTable {
 public:
  // `size` strings at most will be added.
  explicit TokenTable(std::size_t size);

  // Keeps the id given first when a string comes twice. `bytes` must outlive the table.
  void Add(std::string_view bytes, int32_t id);

  // -1 when the string is not there.
  int32_t Find(std::string_view bytes) const;

 private:
  struct Slot {
    std::string_view bytes;
    int32_t id = -1;
  };
  std::size_t SlotOf(std::string_view bytes) const;

  std::vector<Slot> slots_;
};

}  // namespace sluice::text
