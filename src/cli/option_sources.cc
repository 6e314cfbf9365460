#include "cli/option_sources.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/nearest.h"
#include "cli/config_file.h"
#include "cli/http_flags.h"

namespace sluice::cli {
namespace {

constexpr std::string_view kVariablePrefix = "SLUICE_";
// Variables with that prefix that are not flags on purpose.
const std::set<std::string> kOtherVariables{"SLUICE_JOB_SECRET"};
// Flags about the line itself: a file or a variable cannot ask for them.
const std::set<std::string> kOfTheLineAlone{"help", "print-config"};

std::string FirstName(const CLI::Option& option) { return option.get_lnames().front(); }

bool IsSwitch(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

std::vector<std::string> AllNames(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back(name);
  }
  return names;
}

const CLI::Option* Find(const CLI::App& command, const std::string& name) {
  return command.get_option_no_throw("--" + name);
}

bool LooksLikeFlag(const std::string& word) { return word.size() > 2 && word.starts_with("--"); }

// Calls back for each flag of the words with its name and whether it has the value that it takes, and for
// each word that is neither a flag nor the value of one.
void Walk(const CLI::App& command, const std::vector<std::string>& words,
          const std::function<void(const std::string&, const CLI::Option*, bool)>& on_flag,
          const std::function<void()>& on_other) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (!LooksLikeFlag(words[i])) {
      on_other();
      continue;
    }
    const std::size_t equals = words[i].find('=');
    const std::string name = words[i].substr(2, equals == std::string::npos ? equals : equals - 2);
    const CLI::Option* option = Find(command, name);
    const bool has_value = equals != std::string::npos ? equals + 1 < words[i].size()
                                                       : i + 1 < words.size() && !LooksLikeFlag(words[i + 1]);
    on_flag(name, option, has_value || option == nullptr || option->get_items_expected_min() == 0);
    if (option == nullptr || equals != std::string::npos) continue;
    for (int taken = 0; taken < option->get_items_expected_max() && i + 1 < words.size(); ++taken) {
      if (LooksLikeFlag(words[i + 1])) break;
      ++i;
    }
  }
}

std::optional<bool> TruthOf(const std::string& text) {
  for (const char* yes : {"true", "1", "yes", "on"}) {
    if (text == yes) return true;
  }
  for (const char* no : {"false", "0", "no", "off"}) {
    if (text == no) return false;
  }
  return std::nullopt;
}

void Append(const CLI::Option& option, const std::vector<std::string>& values, const std::string& origin,
            std::vector<std::string>& words) {
  const std::string flag = "--" + FirstName(option);
  if (IsSwitch(option)) {
    const auto truth = values.size() == 1 ? TruthOf(values.front()) : std::nullopt;
    if (!truth) {
      Fail(ErrorKind::kUsage, "{} is a switch, and the {} says {}: use true or false", flag, origin,
           fmt::join(values, " "));
    }
    if (*truth) words.push_back(flag);
    return;
  }
  if (values.size() == 1) {
    if (values.front().empty()) {
      Fail(ErrorKind::kUsage, "{} has an empty value in the {}: give it one, or leave it out", flag, origin);
    }
    words.push_back(fmt::format("{}={}", flag, values.front()));
    return;
  }
  if (option.get_items_expected_max() < static_cast<int>(values.size())) {
    Fail(ErrorKind::kUsage, "{} takes one value, and the {} has {}: give one", flag, origin, values.size());
  }
  words.push_back(flag);
  words.insert(words.end(), values.begin(), values.end());
}

// What the environment says of an option.
struct Variable {
  std::string name;
  std::string value;
};
std::optional<Variable> InEnvironment(const CLI::Option& option, const Environment& environment) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_lnames()) names.push_back(VariableOf(name));
  if (!option.get_envname().empty()) names.push_back(option.get_envname());
  std::optional<Variable> found;
  for (const std::string& name : names) {
    const auto at = environment.find(name);
    if (at == environment.end()) continue;
    if (at->second.empty()) {
      Fail(ErrorKind::kUsage, "the environment variable {} is empty: give it a value for --{}, or unset it",
           name, FirstName(option));
    }
    if (found && found->value != at->second) {
      Fail(ErrorKind::kUsage, "the environment variables {} and {} both speak of --{} and differ: unset one",
           found->name, name, FirstName(option));
    }
    if (!found) found = Variable{name, at->second};
  }
  return found;
}

// A list in the environment is written with commas or spaces.
std::vector<std::string> ValuesIn(const CLI::Option& option, const std::string& value) {
  if (option.get_items_expected_max() <= 1) return {value};
  std::vector<std::string> values(1);
  for (const char c : value) {
    if (c != ',' && c != ' ') {
      values.back() += c;
    } else if (!values.back().empty()) {
      values.emplace_back();
    }
  }
  if (values.back().empty()) values.pop_back();
  return values;
}

std::string ConfigPath(const CLI::App& command, const Environment& environment,
                       const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i].starts_with("--config=")) return words[i].substr(9);
    if (words[i] == "--config" && i + 1 < words.size()) return words[i + 1];
  }
  const auto variable = InEnvironment(*command.get_option("--config"), environment);
  return variable ? variable->value : "";
}

// A text, a number or a truth as TOML writes it.
std::string AsToml(const CLI::Option& option, const std::string& value) {
  if (IsSwitch(option)) return value;
  const auto json = nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false);
  if (json.is_number() && value.front() != '+') return value;
  return nlohmann::json(value).dump();  // TOML's basic strings take JSON's escapes
}

std::string ValueOf(const CLI::Option& option, const std::string& from_model) {
  if (IsSwitch(option)) return IsOn(option) ? "true" : "false";
  std::vector<std::string> values = option.results();
  if (values.empty()) values.push_back(from_model.empty() ? option.get_default_str() : from_model);
  if (option.get_items_expected_max() == 1)
    return values.front().empty() ? "" : AsToml(option, values.front());
  if (option.results().empty()) return "";
  std::vector<std::string> listed;
  for (const std::string& value : values) listed.push_back(AsToml(option, value));
  return fmt::format("[{}]", fmt::join(listed, ", "));
}

}  // namespace

bool IsOn(const CLI::Option& option) {
  return option.count() > 0 && TruthOf(option.results().back()).value_or(true);
}

Environment ProcessEnvironment() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

Addressed CommandOf(CLI::App& app, const std::vector<std::string>& words) {
  Addressed addressed{&app, 0};
  while (addressed.names < words.size()) {
    CLI::App* next = nullptr;
    for (CLI::App* child : addressed.command->get_subcommands([](CLI::App*) { return true; })) {
      if (child->get_name() == words[addressed.names]) next = child;
    }
    if (next == nullptr) break;
    addressed.command = next;
    ++addressed.names;
  }
  return addressed;
}

void CheckFlagNames(const CLI::App& command, const std::vector<std::string>& words) {
  const auto check = [&](const std::string& name, const CLI::Option* option, bool has_value) {
    if (!has_value) {
      Fail(ErrorKind::kUsage,
           "--{} has no value: give it one, as --{}=VALUE where the value itself begins with --", name, name);
    }
    if (option != nullptr) return;
    const std::string meant = Nearest(name, AllNames(command));
    Fail(ErrorKind::kUsage, "there is no flag --{}{}", name,
         meant.empty() ? fmt::format("; `sluice {} --help{}` lists them", command.get_name(),
                                     command.get_option_no_throw("--config") != nullptr ? " all" : "")
                       : fmt::format(": did you mean --{}?", meant));
  };
  Walk(command, words, check, [] {});
}

std::string VariableOf(std::string_view flag) {
  std::string name(kVariablePrefix);
  for (const char c : flag)
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

Origins CompleteWords(const CLI::App& command, const Environment& environment,
                      std::vector<std::string>& words) {
  Origins origins;
  const auto on_flag = [&](const std::string&, const CLI::Option* option, bool) {
    if (option != nullptr) origins[FirstName(*option)] = "flag";
  };
  const auto on_other = [&] {
    for (const CLI::Option* option : command.get_options()) {
      if (option->get_positional() && !option->get_lnames().empty()) origins[FirstName(*option)] = "flag";
    }
  };
  Walk(command, words, on_flag, on_other);
  const std::string config = ConfigPath(command, environment, words);
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty() || kOfTheLineAlone.contains(FirstName(*option))) continue;
    const std::string name = FirstName(*option);
    if (origins.contains(name)) continue;
    const auto variable = InEnvironment(*option, environment);
    if (!variable) continue;
    origins[name] = "environment variable " + variable->name;
    Append(*option, ValuesIn(*option, variable->value), origins[name], words);
  }
  if (config.empty()) return origins;
  std::map<std::string, int> lines;  // of flags that the file has had
  for (const ConfigEntry& entry : ReadConfigFile(config)) {
    const CLI::Option* option = Find(command, entry.key);
    if (option == nullptr || kOfTheLineAlone.contains(FirstName(*option)) || FirstName(*option) == "config") {
      const std::string meant = option == nullptr ? Nearest(entry.key, AllNames(command)) : "";
      Fail(ErrorKind::kUsage, "--config {}, line {}: {} is no flag that a file can set{}", config, entry.line,
           entry.key,
           meant.empty() ? "; `sluice serve --help all` lists them" : ": did you mean " + meant + "?");
    }
    const std::string name = FirstName(*option);
    const auto [line, first] = lines.emplace(name, entry.line);
    if (!first) {
      Fail(ErrorKind::kUsage, "--config {}, line {}: {} is set in line {} already: keep one", config,
           entry.line, entry.key, line->second);
    }
    if (origins.contains(name)) continue;
    origins[name] = fmt::format("config file {}, line {}", config, entry.line);
    Append(*option, entry.values, origins[name], words);
  }
  return origins;
}

std::vector<std::string> StrayVariables(const CLI::App& command, const Environment& environment) {
  std::vector<std::string> known;
  for (const std::string& name : AllNames(command)) known.push_back(VariableOf(name));
  std::vector<std::string> sentences;
  for (const auto& [name, value] : environment) {
    if (!name.starts_with(kVariablePrefix) || kOtherVariables.contains(name)) continue;
    if (std::ranges::find(known, name) != known.end()) continue;
    const std::string meant = Nearest(name, known);
    sentences.push_back(fmt::format("the environment variable {} is no flag's and has no effect{}", name,
                                    meant.empty() ? "" : ": did you mean " + meant + "?"));
  }
  return sentences;
}

std::string WithOrigin(const std::string& sentence, const Origins& origins) {
  std::string more;
  for (const auto& [name, origin] : origins) {
    if (origin == "flag") continue;
    const std::size_t at = sentence.find("--" + name);
    const std::size_t end = at + name.size() + 2;
    if (at == std::string::npos) continue;
    if (end < sentence.size() &&
        (std::isalnum(static_cast<unsigned char>(sentence[end])) != 0 || sentence[end] == '-')) {
      continue;  // a longer name
    }
    more += fmt::format("{}--{} is from the {}", more.empty() ? "" : ", ", name, origin);
  }
  return more.empty() ? sentence : fmt::format("{} ({})", sentence, more);
}

std::string PrintedConfig(const CLI::App& command, const Origins& origins,
                          const std::map<std::string, std::string>& model) {
  std::string text;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty() || kOfTheLineAlone.contains(FirstName(*option))) continue;
    const std::string name = FirstName(*option);
    if (name == "config") continue;
    const auto given = origins.find(name);
    const auto of_model = model.find(name);
    std::string origin = "built-in";
    std::string from_model;
    if (given != origins.end()) {
      origin = given->second;
    } else if (of_model != model.end()) {
      origin = "model";
      from_model = of_model->second;
    }
    std::string value = ValueOf(*option, from_model);
    if (IsSecret(name) && !value.empty()) value = fmt::format("\"{}\"", kMaskedSecret);
    text += value.empty() ? fmt::format("# {} is not set\n", name)
                          : fmt::format("{} = {}  # {}\n", name, value, origin);
  }
  return text;
}

}  // namespace sluice::cli
