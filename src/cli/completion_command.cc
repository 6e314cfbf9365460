#include "cli/completion_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <memory>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace sluice::cli {
namespace {

// A command as it is typed after the program's name ("checkpoint make") with the words that may follow.
struct Line {
  std::string path;
  std::vector<const CLI::App*> subcommands;
  std::vector<const CLI::Option*> options;
};

void Collect(const CLI::App& app, const std::string& path, std::vector<Line>& lines) {
  Line line{path, {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_lnames().empty() && !option->get_group().empty()) line.options.push_back(option);
  }
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!child->get_group().empty()) line.subcommands.push_back(child);
  }
  const auto children = line.subcommands;
  lines.push_back(std::move(line));
  for (const CLI::App* child : children) {
    Collect(*child, path.empty() ? child->get_name() : path + " " + child->get_name(), lines);
  }
}

std::vector<std::string> Words(const Line& line) {
  std::vector<std::string> words;
  for (const CLI::App* child : line.subcommands) words.push_back(child->get_name());
  for (const CLI::Option* option : line.options) {
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  }
  return words;
}

// bash and, with bashcompinit, zsh: the words of the longest command that the line begins with; flags only
// after a dash, so that the shell's own file names come where a value or a directory is due.
std::string BashScript(const std::vector<Line>& lines) {
  std::string cases;
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {  // children before their parents
    const std::string pattern = line->path.empty() ? "*" : fmt::format("'{0}'|'{0} '*", line->path);
    cases += fmt::format("    {}) words=\"{}\" ;;\n", pattern, fmt::join(Words(*line), " "));
  }
  return fmt::format(
      "_sluice() {{\n"
      "  local current=\"${{COMP_WORDS[COMP_CWORD]}}\" words word\n"
      "  case \"${{COMP_WORDS[*]:1:COMP_CWORD-1}}\" in\n{}"
      "  esac\n"
      "  COMPREPLY=()\n"
      "  for word in $(echo $words); do\n"
      "    [[ $word == -* && $current != -* ]] && continue\n"
      "    [[ $word == \"$current\"* ]] && COMPREPLY+=(\"$word\")\n"
      "  done\n"
      "}}\n"
      "complete -o default -F _sluice sluice\n",
      cases);
}

std::string FishQuoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

std::string FishScript(const std::vector<Line>& lines) {
  std::string text;
  for (const Line& line : lines) {
    std::string when = "__fish_use_subcommand";
    if (!line.path.empty()) {
      std::string each;
      std::size_t begin = 0;
      while (begin <= line.path.size()) {
        const std::size_t end = std::min(line.path.find(' ', begin), line.path.size());
        each += fmt::format("{}__fish_seen_subcommand_from {}", each.empty() ? "" : "; and ",
                            line.path.substr(begin, end - begin));
        begin = end + 1;
      }
      when = each;
    }
    for (const CLI::App* child : line.subcommands) {
      text += fmt::format("complete -c sluice -f -n {} -a {} -d {}\n", FishQuoted(when), child->get_name(),
                          FishQuoted(child->get_description()));
    }
    for (const CLI::Option* option : line.options) {
      for (const std::string& name : option->get_lnames()) {
        text += fmt::format("complete -c sluice -n {} -l {}{} -d {}\n", FishQuoted(when), name,
                            option->get_items_expected_max() > 0 ? " -r" : "",
                            FishQuoted(option->get_description()));
      }
    }
  }
  return text;
}

}  // namespace

std::string CompletionScript(const CLI::App& app, const std::string& shell) {
  std::vector<Line> lines;
  Collect(app, "", lines);
  if (shell == "bash") return "# bash: source <(sluice completion bash)\n" + BashScript(lines);
  if (shell == "zsh") {
    return "# zsh: source <(sluice completion zsh)\nautoload -U +X compinit && compinit -u\n"
           "autoload -U +X bashcompinit && bashcompinit\n" +
           BashScript(lines);
  }
  if (shell == "fish") return "# fish: sluice completion fish | source\n" + FishScript(lines);
  Fail(ErrorKind::kUsage, "there is no completion for {}: use bash, zsh or fish", shell);
}

void AddCompletionCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("completion", "Print a completion script for bash, zsh or fish");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash, zsh or fish")->required();
  command->callback([&app, shell] {
    const std::string script = CompletionScript(app, *shell);
    std::fwrite(script.data(), 1, script.size(), stdout);
  });
}

}  // namespace sluice::cli
