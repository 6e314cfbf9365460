#include "cli/parse_errors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

#include "base/error.h"
#include "base/nearest.h"

namespace sluice::cli {
namespace {

// "sluice bench serve"
std::string PathOf(const CLI::App& command) {
  const CLI::App* parent = command.get_parent();
  return parent == nullptr ? command.get_name() : PathOf(*parent) + " " + command.get_name();
}

// The commands below one, but for those that are not for people.
std::vector<std::string> CommandsOf(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* child : command.get_subcommands([](const CLI::App*) { return true; })) {
    if (!child->get_group().empty()) names.push_back(child->get_name());
  }
  return names;
}

// "Could not convert: --port = abc", as what the option takes.
std::string NotConverted(const std::string& said, const CLI::App& command) {
  constexpr std::string_view kBefore = "Could not convert: ";
  const std::size_t equals = said.find(" = ");
  if (!said.starts_with(kBefore) || equals == std::string::npos) return said;
  const std::string name = said.substr(kBefore.size(), equals - kBefore.size());
  const std::string value = said.substr(equals + 3);
  const CLI::Option* option = command.get_option_no_throw(name);
  if (option == nullptr) return said;
  const bool whole = option->get_type_name().find("INT") != std::string::npos;
  const bool several = option->get_items_expected_max() > 1;
  return fmt::format("{} {} is not {}{}: use {} such as {}", name, value, several ? "a list of " : "a ",
                     std::string(whole ? "whole number" : "number") + (several ? "s" : ""),
                     several ? "some" : "one", whole ? several ? "1,2" : "8" : "0.5");
}

// Words that no flag takes, in the order in which they were typed.
std::string Unexpected(const std::string& said, const CLI::App& command,
                       const std::vector<std::string>& words) {
  const std::string list = said.substr(std::min(said.find(": "), said.size() - 2) + 2) + " ";
  std::vector<std::string> left;
  for (const std::string& word : words) {
    const std::size_t at = list.find(word + " ");
    if (at != std::string::npos && (at == 0 || list[at - 1] == ' ')) left.push_back(word);
  }
  if (left.empty()) return said;
  return fmt::format("{} belong{} to no flag: `{} --help` says what the command takes", fmt::join(left, " "),
                     left.size() == 1 ? "s" : "", PathOf(command));
}

// "--port: At Most 1 required but received 2"
std::string TooMany(const std::string& said) {
  const std::size_t colon = said.find(": At Most 1 required but received ");
  if (colon == std::string::npos) return said;
  return fmt::format("{} takes one value and is given {}: keep one", said.substr(0, colon),
                     said.substr(said.rfind(' ') + 1));
}

std::string Missing(const std::string& said, const CLI::App& command) {
  const std::vector<std::string> commands = CommandsOf(command);
  if (!commands.empty()) {
    return fmt::format("`{}` needs a command: {}", PathOf(command), fmt::join(commands, ", "));
  }
  const std::string name = said.substr(0, said.find(" is required"));
  const CLI::Option* option = command.get_option_no_throw(name);
  if (option == nullptr || !option->get_positional()) return said;
  return fmt::format("{}: `{} {}`", said, PathOf(command), option->get_name(true));
}

std::string Excluded(const std::string& said) {
  const std::size_t at = said.find(" excludes ");
  if (at == std::string::npos) return said;
  return fmt::format("{} and {} do not go together: leave one of them out", said.substr(0, at),
                     said.substr(at + 10));
}

std::string OutOfRange(const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fmt::format("{} is not a whole number", text);
  }
  if (value >= least && value <= most) return "";
  return most == std::numeric_limits<int64_t>::max()
             ? fmt::format("{} is out of range: use {} or more", value, least)
             : fmt::format("{} is out of range: use {} to {}", value, least, most);
}

}  // namespace

std::string SentenceOf(const CLI::Error& error, const CLI::App& command,
                       const std::vector<std::string>& words) {
  const std::string said = error.what();
  if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr) return NotConverted(said, command);
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return Unexpected(said, command, words);
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) return TooMany(said);
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) return Missing(said, command);
  if (dynamic_cast<const CLI::ExcludesError*>(&error) != nullptr) return Excluded(said);
  return said;
}

CLI::Validator AtLeast(int64_t least) { return Between(least, std::numeric_limits<int64_t>::max()); }

CLI::Validator Between(int64_t least, int64_t most) {
  return CLI::Validator([least, most](std::string& text) { return OutOfRange(text, least, most); }, "");
}

CLI::Validator Unsigned() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        uint64_t value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error == std::errc() && end == text.data() + text.size()) return "";
        return fmt::format("{} is not a whole number from 0 to 2^64 - 1", text);
      },
      "");
}

void CheckSubcommand(const CLI::App& command, const std::vector<std::string>& words) {
  const std::vector<std::string> names = CommandsOf(command);
  if (names.empty() || words.empty() || words.front().starts_with("-")) return;
  const std::string meant = Nearest(words.front(), names);
  const bool top = command.get_parent() == nullptr;
  Fail(ErrorKind::kUsage, "there is no command {}{}{}",
       top ? "" : PathOf(command).substr(PathOf(command).find(' ') + 1) + " ", words.front(),
       meant.empty() ? fmt::format("; `{} --help` lists them", PathOf(command))
                     : ": did you mean " + meant + "?");
}

}  // namespace sluice::cli
