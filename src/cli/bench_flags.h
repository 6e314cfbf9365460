#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "bench/json.h"

namespace sluice::cli {

// Where the results of a `bench` command go.
struct OutputFlags {
  std::string output_file;
  std::string report;
};
void AddOutputFlags(CLI::App& command, OutputFlags& flags);

// Takes the results of a command one by one: each is a line at the end of the output file as soon as it is
// there, and the report is written anew with all of the command's. Throws Error(kUsage) for a file that
// cannot be written, before anything is measured.
class ResultSink {
 public:
  explicit ResultSink(OutputFlags flags);
  void Add(bench::Json result);

 private:
  OutputFlags flags_;
  std::vector<bench::Json> results_;
};

// The results in a file that ResultSink, or SGLang's client, has written. Throws Error(kUsage), with the
// line, for one that is no JSON object.
std::vector<bench::Json> ReadResults(const std::filesystem::path& path);

// Throws Error(kUsage) unless every value is from `low` to `high`.
void CheckRange(const char* flag, const std::vector<int64_t>& values, int64_t low, int64_t high);

}  // namespace sluice::cli
