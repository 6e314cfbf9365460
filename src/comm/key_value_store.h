#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace sluice::comm {

// Where ranks leave what others need to find them, such as the addresses of a data plane; used at start-up.
class KeyValueStore {
 public:
  virtual ~KeyValueStore() = default;
  virtual void Set(const std::string& key, const std::vector<char>& value) = 0;
  // Waits until somebody has set the key. Throws Error(kRankLost) naming it when nobody has within `timeout`.
  virtual std::vector<char> Get(const std::string& key, Duration timeout) = 0;
};

// Another's keys that begin with `prefix`, as a store.
class PrefixedStore final : public KeyValueStore {
 public:
  PrefixedStore(KeyValueStore& inner, std::string prefix) : inner_(inner), prefix_(std::move(prefix)) {}
  void Set(const std::string& key, const std::vector<char>& value) override {
    inner_.Set(prefix_ + key, value);
  }
  std::vector<char> Get(const std::string& key, Duration timeout) override {
    return inner_.Get(prefix_ + key, timeout);
  }

 private:
  KeyValueStore& inner_;
  const std::string prefix_;
};

// A store in this process; thread-safe.
class LocalStore final : public KeyValueStore {
 public:
  void Set(const std::string& key, const std::vector<char>& value) override;
  std::vector<char> Get(const std::string& key, Duration timeout) override;
  // The same without the error: false when nobody has set the key within `timeout`.
  bool TryGet(const std::string& key, Duration timeout, std::vector<char>& value);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::vector<char>> values_;
};

}  // namespace sluice::comm
