#include "trace/text_file.h"

#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace sluice::trace {

TextFile::TextFile(const std::filesystem::path& path) : path_(path) {
  errno = 0;
  const char* mode = path.extension() == ".gz" ? "wb6" : "wbT";  // T: as it is
  file_ = path == "-" ? gzdopen(dup(STDOUT_FILENO), mode) : gzopen(path.c_str(), mode);
  if (file_ == nullptr)
    Fail(ErrorKind::kUsage, "{} cannot be written: {}", path.string(), std::strerror(errno));
}

TextFile::~TextFile() {
  if (file_ != nullptr) gzclose(file_);
}

void TextFile::Write(std::string_view text) {
  if (text.empty() || failed_) return;
  failed_ = gzwrite(file_, text.data(), static_cast<unsigned>(text.size())) != static_cast<int>(text.size());
}

void TextFile::Close() {
  failed_ = gzclose(std::exchange(file_, nullptr)) != Z_OK || failed_;
  if (failed_) {
    Fail(ErrorKind::kUsage, "{} could not be written whole: {}", path_.string(), std::strerror(errno));
  }
}

}  // namespace sluice::trace
