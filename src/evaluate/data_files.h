#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::evaluate {

// What is wrong with the lines of data files, and what is to be done about it.
class Defects {
 public:
  void Add(const std::filesystem::path& file, int64_t line, const std::string& what);
  int64_t count() const { return static_cast<int64_t>(lines_.size()); }
  // "FILE:LINE: what", in the order they were found.
  const std::vector<std::string>& lines() const { return lines_; }
  // Prints them on standard error, at most 20, with their number. Error(kUsage) when there are any and
  // they are not allowed.
  void Judge(bool allowed) const;

 private:
  std::vector<std::string> lines_;
};

// The whole of a file. Error(kUsage) with `remedy` behind the name when it cannot be read.
std::string ReadFile(const std::filesystem::path& file, const std::string& remedy);

// Calls use(line, number) for the lines of `text` that are not blank, without their ends; numbers from 1.
void ForEachLine(std::string_view text,
                 const std::function<void(std::string_view line, int64_t number)>& use);

// Whole files only: written beside and renamed. Error(kUsage) when that fails.
void WriteFile(const std::filesystem::path& file, const std::string& text);
void AppendLine(const std::filesystem::path& file, const std::string& line);

}  // namespace sluice::evaluate
