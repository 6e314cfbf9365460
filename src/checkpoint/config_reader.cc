#include "checkpoint/config_reader.h"

#include <fmt/format.h>

#include <cmath>

#include "checkpoint/json_file.h"

namespace sluice::checkpoint {
namespace {

// Within the range and stored without loss as int64_t.
bool IsIntegerWithin(const nlohmann::json& value, int64_t least, int64_t most) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    return number <= static_cast<uint64_t>(INT64_MAX) && static_cast<int64_t>(number) >= least &&
           static_cast<int64_t>(number) <= most;
  }
  return value.is_number_integer() && value.get<int64_t>() >= least && value.get<int64_t>() <= most;
}

}  // namespace

bool ConfigReader::Has(const char* key) const {
  const auto found = object_.find(key);
  return found != object_.end() && !found->is_null();
}

void ConfigReader::Defect(const char* key, const std::string& found, const std::string& right) {
  defects_.Add("{}: \"{}{}\" is {}; expected {}.", where_, prefix_, key, found, right);
}

void ConfigReader::Wrong(const char* key, const std::string& right) {
  Defect(key, Has(key) ? ShownJson(At(key)) : "missing", right);
}

int64_t ConfigReader::Integer(const char* key, int64_t least, int64_t most) {
  if (Has(key) && IsIntegerWithin(At(key), least, most)) return At(key).get<int64_t>();
  Wrong(key, fmt::format("an integer from {} to {}", least, most));
  return least;
}

int64_t ConfigReader::IntegerOr(const char* key, int64_t fallback, int64_t least, int64_t most) {
  return Has(key) ? Integer(key, least, most) : fallback;
}

double ConfigReader::Number(const char* key, double least, double most) {
  if (Has(key) && At(key).is_number()) {
    const auto number = At(key).get<double>();
    if (std::isfinite(number) && number >= least && number <= most) return number;
  }
  Wrong(key, fmt::format("a number from {} to {}", least, most));
  return least;
}

double ConfigReader::NumberOr(const char* key, double fallback, double least, double most) {
  return Has(key) ? Number(key, least, most) : fallback;
}

bool ConfigReader::BoolOr(const char* key, bool fallback) {
  if (!Has(key)) return fallback;
  if (At(key).is_boolean()) return At(key).get<bool>();
  Wrong(key, "true or false");
  return fallback;
}

std::string ConfigReader::String(const char* key) {
  if (Has(key) && At(key).is_string()) return At(key).get<std::string>();
  Wrong(key, "a string");
  return "";
}

void ConfigReader::OnlyIfPresent(const char* key, const nlohmann::json& built) {
  if (Has(key) && At(key) != built)
    Wrong(key, fmt::format("{}, the one form that is built", ShownJson(built)));
}

}  // namespace sluice::checkpoint
