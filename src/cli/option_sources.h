#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::cli {

using Environment = std::map<std::string, std::string>;

// Whether a switch is on, after the line was parsed: --switch=false turns it off.
bool IsOn(const CLI::Option& option);

// Of this process.
Environment ProcessEnvironment();

// Where the values of a command's flags come from, by the flag's first name without dashes: "flag",
// "environment variable SLUICE_PORT" or "config file x.toml, line 3". A flag that is not here has the model's
// or the built-in value.
using Origins = std::map<std::string, std::string>;

// The subcommand that `words`, those after the program's name, end up in, and how many of them name it.
struct Addressed {
  CLI::App* command = nullptr;
  std::size_t names = 0;
};
Addressed CommandOf(CLI::App& app, const std::vector<std::string>& words);

// Throws Error(kUsage) in one line, with the flag that was probably meant, for a word of `words` that looks
// like a flag and is none of the command's, and for a flag without the value that it takes: the parser would
// take the next flag for it.
void CheckFlagNames(const CLI::App& command, const std::vector<std::string>& words);

// The environment variable of a flag: SLUICE_MAX_RUNNING_REQUESTS of "max-running-requests".
std::string VariableOf(std::string_view flag);

// Appends to `words` what the environment and then the file of --config say of flags that are not in it, so
// that a flag goes before the environment and that before the file. Variables are SLUICE_<FLAG>, of any of
// the flag's names, and the option's own envname. Throws Error(kUsage) for a key that is no flag, with the
// line, for a variable that is empty, and for two variables of one flag that differ.
Origins CompleteWords(const CLI::App& command, const Environment& environment,
                      std::vector<std::string>& words);

// A sentence for each SLUICE_ variable that is no flag's, with the one that was probably meant.
std::vector<std::string> StrayVariables(const CLI::App& command, const Environment& environment);

// `sentence` with the place that its flags' values come from, when that is not the command line.
std::string WithOrigin(const std::string& sentence, const Origins& origins);

// Every flag as a line of TOML that says its value and where it comes from; a file of these lines, given with
// --config, says the same. `model` are values that the model gives, by the flag's first name; they count
// where nothing else is given. A secret is shown as kMaskedSecret (cli/http_flags.h), which is no value for
// it.
std::string PrintedConfig(const CLI::App& command, const Origins& origins,
                          const std::map<std::string, std::string>& model);

}  // namespace sluice::cli
