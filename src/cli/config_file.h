#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sluice::cli {

// One line of a configuration file: a flag without its dashes, and its values as they would stand on the
// command line ("true" and "false" for a switch).
struct ConfigEntry {
  std::string key;
  std::vector<std::string> values;
  int line = 0;  // counted from 1
};

// Reads a TOML file (NAME.toml) or a JSON object (NAME.json) whose keys are flags without their dashes.
// Values are texts, numbers, true or false, and lists of them. Throws Error(kUsage) with the file, the line
// and what would work, for a file that cannot be read or parsed, for another ending, for tables and for a key
// that comes twice. Which keys there are is the caller's business.
std::vector<ConfigEntry> ReadConfigFile(const std::filesystem::path& path);

}  // namespace sluice::cli
