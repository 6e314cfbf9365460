#include "comm/key_value_store.h"

#include "base/error.h"

namespace sluice::comm {

void LocalStore::Set(const std::string& key, const std::vector<char>& value) {
  std::lock_guard lock(mutex_);
  values_[key] = value;
  changed_.notify_all();
}

bool LocalStore::TryGet(const std::string& key, Duration timeout, std::vector<char>& value) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, Clock::now() + timeout, [&] { return values_.contains(key); })) return false;
  value = values_.at(key);
  return true;
}

std::vector<char> LocalStore::Get(const std::string& key, Duration timeout) {
  std::vector<char> value;
  if (!TryGet(key, timeout, value)) {
    Fail(ErrorKind::kRankLost, "nobody has set \"{}\" within {} ms; a rank has not started", key,
         std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count());
  }
  return value;
}

}  // namespace sluice::comm
