#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/mapped_file.h"

namespace sluice::checkpoint {

struct FileSpan {
  const OpenFile* file = nullptr;
  int64_t begin = 0;
  int64_t bytes = 0;
};

// Reads the spans once with `threads` threads (1 to 64), in file order, in pieces of at most 8 MiB. Reading,
// not touching mapped pages, turns a cut file into an Error at the byte where it ends. The first error stops
// all threads and is thrown here.
void ReadIntoPageCache(std::vector<FileSpan> spans, int threads, const LoadProgress& progress);

}  // namespace sluice::checkpoint
