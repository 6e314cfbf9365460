#include "serve/generation_list.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "serve/generation.h"

namespace sluice::serve {

void GenerationList::Add(std::shared_ptr<Generation> generation, int64_t prompts, int64_t max_prompts) {
  const std::lock_guard lock(mutex_);
  if (closed_) throw ApiError(*closed_);
  if (refused_) throw ApiError(*refused_);
  if (prompts_ + prompts > max_prompts) {
    throw ApiError(
        Refusal::kQueueFull,
        fmt::format("{} prompts are under way and this request has {} more; the server takes {} at once",
                    prompts_, prompts, max_prompts));
  }
  prompts_ += prompts;
  const Generation* key = generation.get();
  entries_.emplace(key, Entry{std::move(generation), prompts});
}

void GenerationList::Remove(const Generation* generation) {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(generation);
  if (entry == entries_.end()) return;
  prompts_ -= entry->second.prompts;
  entries_.erase(entry);
}

void GenerationList::Close(const ApiError& error) {
  std::vector<std::shared_ptr<Generation>> all;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = error;
    for (const auto& [key, entry] : entries_) all.push_back(entry.generation);
  }
  for (const auto& generation : all) generation->Fail(error);
}

void GenerationList::Refuse(const ApiError& error) {
  const std::lock_guard lock(mutex_);
  refused_ = error;
}

std::size_t GenerationList::Abort(const std::optional<std::string>& name, const ApiError& error) {
  std::vector<std::shared_ptr<Generation>> named;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, entry] : entries_) {
      if (!name || key->IsNamed(*name)) named.push_back(entry.generation);
    }
  }
  for (const auto& generation : named) generation->Fail(error);
  return named.size();
}

std::optional<ApiError> GenerationList::refusal() const {
  const std::lock_guard lock(mutex_);
  return closed_ ? closed_ : refused_;
}

bool GenerationList::empty() const {
  const std::lock_guard lock(mutex_);
  return entries_.empty();
}

}  // namespace sluice::serve
