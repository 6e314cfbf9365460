#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

namespace sluice::cli {

// The topic of --help in `words`: empty for --help alone and -h, otherwise the word after it or after its
// '='. Nothing when help is not asked for.
std::optional<std::string> HelpTopic(const std::vector<std::string>& words);

// What --help says of a command with many flags. Without a topic its common flags by group and how to see
// more; "all" every flag; the name of a group, or its first letters, that group; any other word the flags
// whose name or description has it. Throws Error(kUsage), naming the groups, for a word that nothing has.
std::string HelpPage(const CLI::App& command, const std::string& topic);

}  // namespace sluice::cli
