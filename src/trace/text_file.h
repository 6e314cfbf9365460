#pragma once

#include <filesystem>
#include <string_view>

struct gzFile_s;

namespace sluice::trace {

// Text written piece by piece to a file, compressed where its name ends with .gz; "-" is standard output.
class TextFile {
 public:
  // Throws Error(kUsage) when it cannot be made.
  explicit TextFile(const std::filesystem::path& path);
  ~TextFile();
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;

  void Write(std::string_view text);
  // Throws Error(kUsage) unless all of it was written. Once.
  void Close();

 private:
  std::filesystem::path path_;
  gzFile_s* file_ = nullptr;
  bool failed_ = false;
};

}  // namespace sluice::trace
