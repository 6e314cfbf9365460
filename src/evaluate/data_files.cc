#include "evaluate/data_files.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/error.h"

namespace sluice::evaluate {
namespace {

constexpr int64_t kShownDefects = 20;

[[noreturn]] void CannotWrite(const std::filesystem::path& file) {
  Fail(ErrorKind::kUsage, "cannot write {}: {}; give another place with --output or --result-file",
       file.string(), std::strerror(errno));
}

}  // namespace

void Defects::Add(const std::filesystem::path& file, int64_t line, const std::string& what) {
  lines_.push_back(fmt::format("{}:{}: {}", file.string(), line, what));
}

void Defects::Judge(bool allowed) const {
  if (lines_.empty()) return;
  for (int64_t i = 0; i < std::min(count(), kShownDefects); ++i) fmt::print(stderr, "{}\n", lines_[i]);
  if (count() > kShownDefects) fmt::print(stderr, "... and {} more\n", count() - kShownDefects);
  if (allowed) {
    fmt::print(stderr, "{} malformed line{} left out (--allow-malformed)\n", count(),
               count() == 1 ? "" : "s");
    return;
  }
  Fail(ErrorKind::kUsage,
       "{} malformed line{} in the data, the first at {}; mend the data, or leave such lines out with "
       "--allow-malformed",
       count(), count() == 1 ? "" : "s", lines_.front());
}

std::string ReadFile(const std::filesystem::path& file, const std::string& remedy) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream || std::filesystem::is_directory(file)) {
    Fail(ErrorKind::kUsage, "cannot read {}: {}; {}", file.string(),
         std::filesystem::is_directory(file) ? "it is a directory" : std::strerror(errno), remedy);
  }
  return {std::istreambuf_iterator<char>(stream), {}};
}

void ForEachLine(std::string_view text, const std::function<void(std::string_view, int64_t)>& use) {
  int64_t number = 0;
  while (!text.empty()) {
    ++number;
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") != std::string_view::npos) use(line, number);
  }
}

void WriteFile(const std::filesystem::path& file, const std::string& text) {
  const std::filesystem::path beside = file.string() + ".part";
  errno = 0;
  {
    std::ofstream stream(beside, std::ios::binary | std::ios::trunc);
    stream << text;
    stream.close();
    if (!stream) CannotWrite(file);
  }
  std::error_code error;
  std::filesystem::rename(beside, file, error);
  if (error) CannotWrite(file);
}

void AppendLine(const std::filesystem::path& file, const std::string& line) {
  errno = 0;
  std::ofstream stream(file, std::ios::binary | std::ios::app);
  stream << line << '\n';
  stream.close();
  if (!stream) CannotWrite(file);
}

}  // namespace sluice::evaluate
