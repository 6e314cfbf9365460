#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/defects.h"

namespace sluice::checkpoint {

// Takes typed values out of one JSON object of a config. Each failure adds one sentence (file, key, what was
// found, what would be right) and gives back a value that is safe to go on with.
class ConfigReader {
 public:
  // `prefix` precedes the keys in sentences: "" or "rope_scaling.".
  ConfigReader(const nlohmann::json& object, std::string where, std::string prefix, Defects& defects)
      : object_(object), where_(std::move(where)), prefix_(std::move(prefix)), defects_(defects) {}

  // A key that is absent or null is not there.
  bool Has(const char* key) const;
  const nlohmann::json& At(const char* key) const { return object_.at(key); }

  int64_t Integer(const char* key, int64_t least, int64_t most);
  int64_t IntegerOr(const char* key, int64_t fallback, int64_t least, int64_t most);
  double Number(const char* key, double least, double most);
  double NumberOr(const char* key, double fallback, double least, double most);
  bool BoolOr(const char* key, bool fallback);
  std::string String(const char* key);

  // For features of which one form is built: adds a defect if the key is there with another value.
  void OnlyIfPresent(const char* key, const nlohmann::json& built);

  void Defect(const char* key, const std::string& found, const std::string& right);
  const std::string& where() const { return where_; }
  Defects& defects() { return defects_; }

 private:
  void Wrong(const char* key, const std::string& right);

  const nlohmann::json& object_;
  std::string where_;
  std::string prefix_;
  Defects& defects_;
};

}  // namespace sluice::checkpoint
