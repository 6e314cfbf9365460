#include "text/encoding_folder.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/deepseek_v32_texts.h"

namespace sluice::text {
namespace {

constexpr std::uintmax_t kLargestFile = 1U << 20U;
constexpr std::string_view kToolsName = "TOOLS_SYSTEM_TEMPLATE";

// The names that encoding_dsv32.py gives to its texts, with our texts. A literal may use the others as
// {name}, which Ours() has already put in.
const std::vector<std::pair<std::string_view, std::string_view>>& Ours() {
  static const std::vector<std::pair<std::string_view, std::string_view>> texts = {
      {kToolsName, kDeepSeekV32ToolsText},
      {"response_format_template", kDeepSeekV32ResponseFormatText},
      {"bos_token", kBeginOfSentence},
      {"eos_token", kEndOfSentence},
      {"thinking_start_token", kThinkOpen},
      {"thinking_end_token", kThinkClose},
      {"dsml_token", kDsml},
  };
  return texts;
}

void Replace(std::string& text, std::string_view place, std::string_view with) {
  for (std::size_t at = text.find(place); at != std::string::npos; at = text.find(place, at + with.size())) {
    text.replace(at, place.size(), with);
  }
}

// The string literal that is assigned to `name` at the beginning of a line: NAME = "...", NAME: str =
// """...""". Escapes \n, \t, \", \' and \\ are read, others stay.
std::optional<std::string> Assigned(std::string_view source, std::string_view name) {
  for (std::size_t at = source.find(name); at != std::string_view::npos; at = source.find(name, at + 1)) {
    if (at > 0 && source[at - 1] != '\n') continue;
    const std::size_t line_end = std::min(source.find('\n', at), source.size());
    const std::size_t equals = source.substr(0, line_end).find('=', at);
    if (equals == std::string_view::npos) continue;
    const std::string_view between = source.substr(at + name.size(), equals - at - name.size());
    const bool whole_name = between.find_first_not_of(" \t") == std::string_view::npos ||
                            between.substr(between.find_first_not_of(" \t")).front() == ':';
    const std::size_t open = source.find_first_not_of(" \t(", equals + 1);
    if (!whole_name || open == std::string_view::npos) continue;
    std::string_view quote = source.substr(open, 3);
    if (quote != "\"\"\"" && quote != "'''") quote = source.substr(open, 1);
    if (quote.front() != '"' && quote.front() != '\'') continue;
    std::string text;
    for (std::size_t i = open + quote.size(); i < source.size(); ++i) {
      if (source.substr(i).starts_with(quote)) return text;
      if (source[i] != '\\' || i + 1 == source.size()) {
        text += source[i];
        continue;
      }
      const char escaped = source[++i];
      if (escaped == 'n' || escaped == 't') {
        text += escaped == 'n' ? '\n' : '\t';
      } else if (escaped != '\n') {
        if (escaped != '"' && escaped != '\'' && escaped != '\\') text += '\\';
        text += escaped;
      }
    }
  }
  return std::nullopt;
}

std::string_view Line(std::string_view text, std::size_t index) {
  for (; index > 0 && !text.empty(); --index) text.remove_prefix(std::min(text.find('\n') + 1, text.size()));
  return text.substr(0, text.find('\n'));
}

std::string Difference(const std::string& file, std::string_view name, std::string_view theirs,
                       std::string_view ours) {
  std::size_t line = 0;
  while (Line(theirs, line) == Line(ours, line) && line < theirs.size() + ours.size()) ++line;
  return fmt::format(
      "{}: {} is not the text that prompts are written with here; line {} is \"{}\" there and \"{}\" here.",
      file, name, line + 1, Line(theirs, line), Line(ours, line));
}

}  // namespace

std::vector<std::string> CompareEncodingFolder(const std::filesystem::path& checkpoint) {
  std::vector<std::string> differences;
  const std::filesystem::path folder = checkpoint / "encoding";
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) return differences;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".py" && entry.is_regular_file(error)) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  bool has_tools = false;
  for (const std::filesystem::path& path : files) {
    if (std::filesystem::file_size(path, error) > kLargestFile) continue;
    std::ifstream stream(path, std::ios::binary);
    const std::string source{std::istreambuf_iterator<char>(stream), {}};
    for (const auto& [name, ours] : Ours()) {
      std::optional<std::string> theirs = Assigned(source, name);
      if (!theirs) continue;
      has_tools |= name == kToolsName;
      Replace(*theirs, "{dsml_token}", kDsml);
      Replace(*theirs, "{thinking_start_token}", kThinkOpen);
      Replace(*theirs, "{thinking_end_token}", kThinkClose);
      if (*theirs != ours) {
        differences.push_back(
            Difference((folder.filename() / path.filename()).string(), name, *theirs, ours));
      }
    }
  }
  if (!has_tools) {
    differences.push_back(fmt::format(
        "{}: no Python file there assigns {}, so the tools text of prompts is not compared with it.",
        folder.filename().string() + "/", kToolsName));
  }
  return differences;
}

}  // namespace sluice::text
