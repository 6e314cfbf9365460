#include "text/token_table.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/error.h"

namespace sluice::text {

TokenTable::TokenTable(std::size_t size) : slots_(std::bit_ceil(std::max<std::size_t>(16, size * 2))) {}

std::size_t TokenTable::SlotOf(std::string_view bytes) const {
  std::size_t at = std::hash<std::string_view>{}(bytes) & (slots_.size() - 1);
  while (slots_[at].id >= 0 && slots_[at].bytes != bytes) at = (at + 1) & (slots_.size() - 1);
  return at;
}

void TokenTable::Add(std::string_view bytes, int32_t id) {
  SLUICE_CHECK(id >= 0, "token id {}", id);
  Slot& slot = slots_[SlotOf(bytes)];
  if (slot.id < 0) slot = {bytes, id};
}

int32_t TokenTable::Find(std::string_view bytes) const { return slots_[SlotOf(bytes)].id; }

}  // namespace sluice::text
