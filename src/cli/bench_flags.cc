#include "cli/bench_flags.h"

#include <fstream>
#include <utility>

#include "base/error.h"
#include "bench/report.h"

namespace sluice::cli {
namespace {

// Opened to append: what is there stays.
std::ofstream OpenFor(const std::string& path, std::ios::openmode mode, const char* flag) {
  std::ofstream file(path, mode);
  if (!file) Fail(ErrorKind::kUsage, "{} {} cannot be written", flag, path);
  return file;
}

}  // namespace

void AddOutputFlags(CLI::App& command, OutputFlags& flags) {
  const char* group = "Output";
  command
      .add_option("--output-file", flags.output_file,
                  "JSON lines file that every run's result is appended to")
      ->group(group);
  command.add_option("--report", flags.report, "HTML page with tables and charts of this command's runs")
      ->group(group);
}

ResultSink::ResultSink(OutputFlags flags) : flags_(std::move(flags)) {
  if (!flags_.output_file.empty()) OpenFor(flags_.output_file, std::ios::app, "--output-file");
  if (!flags_.report.empty()) OpenFor(flags_.report, std::ios::app, "--report");
}

void ResultSink::Add(bench::Json result) {
  if (!flags_.output_file.empty()) {
    OpenFor(flags_.output_file, std::ios::app, "--output-file") << result.dump() << "\n";
  }
  results_.push_back(std::move(result));
  if (!flags_.report.empty())
    OpenFor(flags_.report, std::ios::trunc, "--report") << bench::RenderReport(results_);
}

std::vector<bench::Json> ReadResults(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) Fail(ErrorKind::kUsage, "{} cannot be read", path.string());
  std::vector<bench::Json> results;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (line.empty()) continue;
    bench::Json result = bench::Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!result.is_object()) Fail(ErrorKind::kUsage, "{}:{}: it is no JSON object", path.string(), number);
    results.push_back(std::move(result));
  }
  return results;
}

void CheckRange(const char* flag, const std::vector<int64_t>& values, int64_t low, int64_t high) {
  for (const int64_t value : values) {
    if (value < low || value > high) {
      Fail(ErrorKind::kUsage, "{} {} is out of range: use {} to {}", flag, value, low, high);
    }
  }
}

}  // namespace sluice::cli
