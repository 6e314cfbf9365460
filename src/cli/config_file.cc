#include "cli/config_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/error.h"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void RefuseLine(const std::filesystem::path& path, int line, const std::string& why) {
  Fail(ErrorKind::kUsage, "--config {}, line {}: {}", path.string(), line, why);
}

constexpr const char* kNoTables =
    "is a table: keys are flags without their dashes, all at the top, with a text, a number, true or false, "
    "or "
    "a list of them";

std::optional<std::string> TextOf(const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) return text;
  if (const auto number = node.value_exact<int64_t>()) return fmt::to_string(*number);
  // 3.0 stays "3.0", which no count of something takes.
  if (const auto number = node.value_exact<double>()) return Json(*number).dump();
  if (const auto truth = node.value_exact<bool>()) return *truth ? "true" : "false";
  return std::nullopt;
}

std::optional<std::string> TextOf(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  return std::nullopt;
}

// The values of a key, from a single one or a list of either format.
template <typename Node, typename List>
std::vector<std::string> ValuesOf(const Node& node, const List* list, const auto& refuse) {
  std::vector<std::string> values;
  const auto add = [&](const auto& member) {
    auto text = TextOf(member);
    if (!text) refuse();
    values.push_back(std::move(*text));
  };
  if (list == nullptr) {
    add(node);
  } else {
    for (const auto& member : *list) add(member);
  }
  return values;
}

std::vector<ConfigEntry> ReadToml(const std::filesystem::path& path, const std::string& text) {
  std::vector<ConfigEntry> entries;
  try {
    const toml::table table = toml::parse(text, path.string());
    for (const auto& [key, node] : table) {
      const int line = static_cast<int>(key.source().begin.line);
      const std::string name(key.str());
      entries.push_back(
          {name, ValuesOf(node, node.as_array(), [&] { RefuseLine(path, line, name + " " + kNoTables); }),
           line});
    }
  } catch (const toml::parse_error& error) {
    RefuseLine(path, static_cast<int>(error.source().begin.line), std::string(error.description()));
  }
  std::ranges::sort(entries, {}, &ConfigEntry::line);
  return entries;
}

// Counts the lines that a parser has read.
class LineCounter {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  LineCounter(const char* at, int* line) : at_(at), line_(line) {}
  reference operator*() const { return *at_; }
  LineCounter& operator++() {
    if (*at_ == '\n') ++*line_;
    ++at_;
    return *this;
  }
  LineCounter operator++(int) {
    LineCounter before = *this;
    ++*this;
    return before;
  }
  bool operator==(const LineCounter& other) const { return at_ == other.at_; }

 private:
  const char* at_;
  int* line_;
};

std::vector<ConfigEntry> ReadJson(const std::filesystem::path& path, const std::string& text) {
  int line = 1;
  std::vector<std::pair<std::string, int>> keys;
  const auto note_key = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event != Json::parse_event_t::key || depth != 1) return true;
    keys.emplace_back(value.get<std::string>(), line);
    const auto same = [&](const auto& other) { return other.first == keys.back().first; };
    if (std::ranges::count_if(keys, same) > 1)
      RefuseLine(path, line, keys.back().first + " comes twice: keep one");
    return true;
  };
  Json object;
  try {
    object =
        Json::parse(LineCounter(text.data(), &line), LineCounter(text.data() + text.size(), &line), note_key);
  } catch (const Json::parse_error& error) {
    RefuseLine(path, line, fmt::format("this is not JSON: {}", error.what()));
  }
  if (!object.is_object()) RefuseLine(path, 1, "this is not a JSON object of flags and their values");
  std::vector<ConfigEntry> entries;
  for (const auto& [key, key_line] : keys) {
    const Json& value = object.at(key);
    const auto refuse = [&, where = key_line, &name = key] {
      RefuseLine(path, where, name + " " + kNoTables);
    };
    const auto* list = value.is_array() ? &value : nullptr;
    entries.push_back({key, ValuesOf(value, list, refuse), key_line});
  }
  return entries;
}

}  // namespace

std::vector<ConfigEntry> ReadConfigFile(const std::filesystem::path& path) {
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad()) {
    Fail(ErrorKind::kUsage, "--config {} cannot be read: give a TOML or JSON file of flags", path.string());
  }
  if (path.extension() == ".toml") return ReadToml(path, text);
  if (path.extension() == ".json") return ReadJson(path, text);
  Fail(ErrorKind::kUsage, "--config {} ends in neither .toml nor .json: name the file by its format",
       path.string());
}

}  // namespace sluice::cli
