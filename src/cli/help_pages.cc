#include "cli/help_pages.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <functional>
#include <string_view>

#include "base/error.h"

namespace sluice::cli {
namespace {

// What --help shows of `sluice serve`; the rest is one word away.
constexpr std::array<std::string_view, 20> kCommon{"model-path",
                                                   "served-model-name",
                                                   "host",
                                                   "port",
                                                   "pp-size",
                                                   "tp",
                                                   "attn-cp-size",
                                                   "nnodes",
                                                   "node-rank",
                                                   "dist-init-addr",
                                                   "context-length",
                                                   "max-running-requests",
                                                   "mem-fraction-static",
                                                   "numerics",
                                                   "chunked-prefill-size",
                                                   "watchdog-timeout",
                                                   "config",
                                                   "print-config",
                                                   "log-level",
                                                   "decode-log-interval"};

constexpr std::size_t kNameColumn = 40;
constexpr std::size_t kLineWidth = 110;

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

std::vector<std::string> Groups(const CLI::App& command) {
  std::vector<std::string> groups;
  for (const CLI::Option* option : command.get_options()) {
    const std::string& group = option->get_group();
    if (!group.empty() && std::ranges::find(groups, group) == groups.end()) groups.push_back(group);
  }
  return groups;
}

// "  --tp, --tp-size N      Ranks per stage (default 1)", wrapped.
std::string Entry(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  std::string line = fmt::format("  {}", fmt::join(names, ", "));
  if (option.get_items_expected_max() > 0) line += " " + option.get_type_name();
  if (line.size() + 1 >= kNameColumn) line += "\n" + std::string(kNameColumn, ' ');
  line.resize(std::max(line.size(), kNameColumn), ' ');
  std::string about = option.get_description();
  const std::string usual = option.get_default_str();
  if (option.get_items_expected_max() == 1 && !usual.empty() && !option.get_required()) {
    about += fmt::format(" (default {})", usual);
  }
  std::size_t column = kNameColumn;
  std::size_t begin = 0;
  while (begin < about.size()) {
    const std::size_t end = std::min(about.find(' ', begin), about.size());
    if (column + end - begin > kLineWidth && column > kNameColumn) {
      line += "\n" + std::string(kNameColumn, ' ');
      column = kNameColumn;
    }
    line += about.substr(begin, end - begin) + " ";
    column += end - begin + 1;
    begin = end + 1;
  }
  while (line.back() == ' ') line.pop_back();
  return line + "\n";
}

// The flags that are wanted, under the titles of their groups; empty when there are none.
std::string Listed(const CLI::App& command, const std::function<bool(const CLI::Option&)>& wanted) {
  std::string text;
  for (const std::string& group : Groups(command)) {
    std::string entries;
    for (const CLI::Option* option : command.get_options()) {
      const bool shown = option->get_group() == group && !option->get_lnames().empty() && wanted(*option);
      if (shown) entries += Entry(*option);
    }
    if (!entries.empty()) text += fmt::format("\n{}:\n{}", group, entries);
  }
  return text;
}

std::string Usage(const CLI::App& command) {
  return fmt::format("{}\n\n  sluice {} MODEL [flags]\n", command.get_description(), command.get_name());
}

}  // namespace

std::optional<std::string> HelpTopic(const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i].starts_with("--help=")) return words[i].substr(7);
    if (words[i] != "--help" && words[i] != "-h") continue;
    const bool topic = i + 1 < words.size() && !words[i + 1].starts_with("-");
    return topic ? words[i + 1] : "";
  }
  return std::nullopt;
}

std::string HelpPage(const CLI::App& command, const std::string& topic) {
  const std::vector<std::string> groups = Groups(command);
  if (topic.empty()) {
    const auto common = [](const CLI::Option& option) {
      return std::ranges::find(kCommon, option.get_lnames().front()) != kCommon.end();
    };
    return fmt::format(
        "{}{}\nThese are the common flags. `--help all` has every flag, `--help GROUP` those of a group, and "
        "`--help=WORD` those\nthat speak of a word. Groups: {}.\nEvery flag can also come from the "
        "environment "
        "(SLUICE_PORT for --port) or a file (--config); the flag goes first,\nthen the environment, then the "
        "file. "
        "Counts of tokens and bytes take k, M, G (thousands) and Ki, Mi, Gi (1,024s).\n",
        Usage(command), Listed(command, common), fmt::join(groups, ", "));
  }
  const std::string word = Lower(topic);
  if (word == "all") return Usage(command) + Listed(command, [](const CLI::Option&) { return true; });
  for (const std::string& group : groups) {
    if (!Lower(group).starts_with(word)) continue;
    return Usage(command) +
           Listed(command, [&](const CLI::Option& option) { return option.get_group() == group; });
  }
  const std::string bare = word.starts_with("--") ? word.substr(2) : word;
  const std::string found = Listed(command, [&](const CLI::Option& option) {
    std::string text = option.get_description();
    for (const std::string& name : option.get_lnames()) text += " " + name;
    return Lower(text).find(bare) != std::string::npos;
  });
  if (!found.empty()) return Usage(command) + found;
  Fail(ErrorKind::kUsage,
       "--help {}: no group is called so and no flag speaks of it; groups are {}, or use all", topic,
       fmt::join(groups, ", "));
}

}  // namespace sluice::cli
