#pragma once

#include <span>
#include <string_view>

namespace sluice::serve {

struct WebFile {
  std::string_view name;
  std::string_view text;
};

// The files of src/serve/web, put into the program by cmake/EmbedFiles.cmake.
std::span<const WebFile> WebFiles();

}  // namespace sluice::serve
