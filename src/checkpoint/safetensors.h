#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/defects.h"
#include "checkpoint/mapped_file.h"
#include "tensor/dtype.h"

namespace sluice::checkpoint {

// One tensor of a safetensors file. `begin` counts from the start of the file.
struct TensorEntry {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  int64_t begin = 0;
  int64_t bytes = 0;
};

// What a header says.
struct SafetensorsHeader {
  bool readable = false;  // it is a JSON object; false: nothing is known of its tensors
  std::map<std::string, TensorEntry> tensors;
  std::set<std::string> broken;  // names that are there with an entry that is wrong
};

// The header of one file.
struct SafetensorsFile {
  std::filesystem::path path;
  FileIdentity identity;
  SafetensorsHeader header;
};

// "[576, 7168]".
std::string ShownShape(const std::vector<int64_t>& shape);

// Reads the header of a safetensors file and trusts nothing in it:
//   8 bytes little-endian header length n: 2 <= n <= min(file bytes - 8, 100'000'000)
//   n bytes of JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end)}, ...}, offsets from byte 8 +
//   n;
//     "__metadata__" is ignored, a name twice is refused, spaces may pad it
//   the data: every byte belongs to exactly one tensor (no overlap, no hole, nothing beyond the end),
//     and end - begin = product of the shape x element size, in checked 64-bit arithmetic.
// Tensors that are right by themselves are returned even when others are not.
SafetensorsFile ReadSafetensorsHeader(const std::filesystem::path& path, Defects& defects);

// The JSON part alone. Data begin at byte `data_begin` of a file of `file_bytes` bytes.
SafetensorsHeader ParseSafetensorsHeader(std::string_view json, int64_t data_begin, int64_t file_bytes,
                                         const std::string& where, Defects& defects);

}  // namespace sluice::checkpoint
