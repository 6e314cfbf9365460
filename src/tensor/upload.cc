#include "tensor/upload.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace sluice {

Upload::Upload(Memory& memory, int threads) : memory_(memory), pool_(threads - 1) {}

void Upload::Copy(std::span<const Span> spans) {
  while (std::ssize(slots_) < int64_t{2} * pool_.width()) free_.push_back(&slots_.emplace_back(memory_));
  std::vector<Span> pieces;
  for (const Span& span : spans) {
    const auto* from = static_cast<const std::byte*>(span.from);
    auto* to = static_cast<std::byte*>(span.to);
    for (int64_t done = 0; done < span.bytes; done += kPieceBytes) {
      pieces.push_back({from + done, to + done, std::min(kPieceBytes, span.bytes - done)});
    }
  }
  pool_.ParallelFor(std::ssize(pieces), [&](int64_t i) { CopyPiece(pieces[static_cast<size_t>(i)]); });
  for (Slot& slot : slots_) slot.stream->Finish();
}

void Upload::CopyPiece(const Span& piece) {
  Slot* slot = nullptr;
  {
    const std::lock_guard lock(mutex_);
    SLUICE_CHECK(!free_.empty(), "there are two slots for each thread");
    slot = free_.front();
    free_.pop_front();
  }
  slot->stream->Finish();  // what lay there is on the device
  std::memcpy(slot->pinned.data(), piece.from, static_cast<size_t>(piece.bytes));
  slot->stream->Copy(slot->pinned.data(), piece.to, piece.bytes);
  const std::lock_guard lock(mutex_);
  free_.push_back(slot);
}

}  // namespace sluice
