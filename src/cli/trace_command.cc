#include "cli/trace_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "trace/dump.h"
#include "trace/merge.h"
#include "trace/pipeline_lanes.h"
#include "trace/strip.h"
#include "trace/text_file.h"
#include "trace/time_table.h"

namespace sluice::cli {
namespace {

struct TraceArguments {
  std::vector<std::string> inputs;
  std::string output;
  std::string title;
  bool json = false;
};

void Merge(const TraceArguments& arguments) {
  const auto files = trace::FindDumps(arguments.inputs);
  trace::TextFile out(arguments.output);
  const trace::Merged merged = trace::MergeTraces(files, [&out](std::string_view text) { out.Write(text); });
  out.Close();
  std::string line = fmt::format("{} events and {} hops of {} of {} ranks", merged.events, merged.hops,
                                 files.size(), merged.ranks);
  if (merged.clock_error_ns > 0) {
    line += fmt::format("; clocks of ranks are known to {:.1f} us",
                        static_cast<double>(merged.clock_error_ns) / 1e3);
  }
  if (merged.lost > 0) line += fmt::format("; {} events were overwritten before", merged.lost);
  if (!merged.missing.empty()) line += fmt::format("; missing: rank {}", fmt::join(merged.missing, ", "));
  fmt::print(stderr, "{}\n", line);
}

void Table(const TraceArguments& arguments) {
  const trace::TimeTable table = trace::TableOf(trace::FindDumps(arguments.inputs));
  fmt::print("{}", arguments.json ? trace::JsonOf(table) : trace::TextOf(table));
}

void Svg(const TraceArguments& arguments) {
  const auto lanes = trace::PipelineLanes(trace::FindDumps(arguments.inputs));
  trace::TextFile out(arguments.output);
  out.Write(trace::RenderSvg(lanes, trace::XmlText(arguments.title)));
  out.Close();
}

CLI::App* AddOne(CLI::App& group, const char* name, const char* description,
                 const std::shared_ptr<TraceArguments>& arguments) {
  CLI::App* command = group.add_subcommand(name, description);
  command->add_option("inputs", arguments->inputs, "Directory of one dump, or its files (*.sltrace)")
      ->required();
  return command;
}

void AddOutput(CLI::App& command, TraceArguments& arguments, const char* default_name,
               const char* description) {
  arguments.output = default_name;
  command.add_option("-o,--output", arguments.output, description)->capture_default_str();
}

}  // namespace

void AddTraceCommand(CLI::App& app) {
  CLI::App* group = app.add_subcommand("trace", "Look at the trace files of a job's ranks");
  group->require_subcommand(1);

  auto merge = std::make_shared<TraceArguments>();
  CLI::App* command = AddOne(*group, "merge", "Put all ranks into one file for ui.perfetto.dev", merge);
  AddOutput(*command, *merge, "trace.json.gz",
            "File to write, compressed if it ends with .gz; - for standard output");
  command->callback([merge] { Merge(*merge); });

  auto table = std::make_shared<TraceArguments>();
  command = AddOne(*group, "table", "Where the time of each stage went; adds up to 100 %", table);
  command->add_flag("--json", table->json, "In nanoseconds, as JSON");
  command->callback([table] { Table(*table); });

  auto svg = std::make_shared<TraceArguments>();
  svg->title = "steps on the stages of the pipeline";
  command = AddOne(*group, "svg", "Draw the steps on the stages of the pipeline", svg);
  AddOutput(*command, *svg, "trace.svg", "File to write; - for standard output");
  command->add_option("--title", svg->title, "Title of the picture")->capture_default_str();
  command->callback([svg] { Svg(*svg); });
}

}  // namespace sluice::cli
