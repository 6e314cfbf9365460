#include "ops/cuda/pass_lists.h"

#include "base/checked.h"
#include "base/error.h"

namespace sluice::ops::cuda {

std::byte* PassLists::Put(std::span<const std::byte> bytes) {
  const int64_t at = CeilDiv(std::ssize(image_), Staging::kAlignment) * Staging::kAlignment;
  if (at + std::ssize(bytes) > device_.bytes()) {
    Fail(ErrorKind::kInternal, "the lists of a recorded pass take more than the {} bytes that were reserved",
         device_.bytes());
  }
  image_.resize(static_cast<size_t>(at));
  image_.insert(image_.end(), bytes.begin(), bytes.end());
  return device_.data() + at;
}

void PassLists::Bring() {
  const std::span<const std::byte> news = std::span(image_).subspan(static_cast<size_t>(brought_));
  if (news.empty()) return;
  staging_.Reserve(std::ssize(news), 1);
  staging_.PutAt(news, device_.data() + brought_);
  brought_ = std::ssize(image_);
}

}  // namespace sluice::ops::cuda
