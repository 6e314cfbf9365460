#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sluice::text {

// DeepSeek-V3.2 comes with its encoding as a Python file in the folder `encoding/` of the checkpoint. It is
// read as text and never run: its fixed texts (string literals that are assigned to a name) are compared with
// ours, so that a checkpoint made for other texts is noticed.
//
// One sentence for each text that differs, with the file, the name and the first line that is not the same,
// and one if no file there has the tools text. Empty when all are equal, or when `checkpoint` has no such
// folder.
std::vector<std::string> CompareEncodingFolder(const std::filesystem::path& checkpoint);

}  // namespace sluice::text
