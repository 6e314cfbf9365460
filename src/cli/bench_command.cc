#include "cli/bench_command.h"

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "bench/report.h"
#include "cli/bench_engine_command.h"
#include "cli/bench_flags.h"
#include "cli/bench_parts_command.h"
#include "cli/bench_serve_command.h"

namespace sluice::cli {
namespace {

struct ReportFlags {
  std::vector<std::string> files;
  std::string output;
};

void Report(const ReportFlags& flags) {
  std::vector<bench::Json> results;
  for (const std::string& file : flags.files) {
    for (bench::Json& result : ReadResults(file)) results.push_back(std::move(result));
  }
  std::ofstream page(flags.output);
  page << bench::RenderReport(results);
  page.flush();
  if (!page) Fail(ErrorKind::kUsage, "--output {} cannot be written", flags.output);
}

}  // namespace

void AddBenchCommand(CLI::App& app) {
  CLI::App* group = app.add_subcommand("bench", "Measure speed");
  group->require_subcommand(1);
  AddBenchServeCommand(*group);
  AddBenchEngineCommands(*group);
  AddBenchPartsCommands(*group);
  auto flags = std::make_shared<ReportFlags>();
  CLI::App* report = group->add_subcommand("report", "One HTML page of results kept with --output-file");
  report->add_option("files", flags->files, "JSON lines files")->required();
  report->add_option("--output", flags->output, "The page")->required();
  report->callback([flags] { Report(*flags); });
}

}  // namespace sluice::cli
