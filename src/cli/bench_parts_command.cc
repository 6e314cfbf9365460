#include "cli/bench_parts_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "bench/comm_figures.h"
#include "bench/op_figures.h"
#include "checkpoint/checkpoint.h"
#include "cli/bench_flags.h"
#include "cli/human_size.h"

namespace sluice::cli {
namespace {

struct OpsFlags {
  std::string model = "random:v3.2";
  std::string numerics = "exact";
  int64_t threads = std::max(1U, std::thread::hardware_concurrency());
  std::vector<int64_t> rows{1, 16, 256};
  int64_t context = 32768;
  double seconds = 0.1;
  OutputFlags output;
};

void BenchOps(const OpsFlags& flags) {
  CheckRange("--threads", {flags.threads}, 1, 1024);
  CheckRange("--rows", flags.rows, 1, 1'000'000);
  CheckRange("--context", {flags.context}, 64, 1 << 24);
  if (flags.context % 64 != 0) {
    Fail(ErrorKind::kUsage, "--context {} is no multiple of 64, the tokens of a page", flags.context);
  }
  if (flags.numerics != "exact" && flags.numerics != "fp8") {
    Fail(ErrorKind::kUsage, "--numerics {} is not known: use exact or fp8", flags.numerics);
  }
  ResultSink sink(flags.output);
  const auto numerics = flags.numerics == "exact" ? ops::Numerics::kExact : ops::Numerics::kFp8;
  const auto checkpoint = checkpoint::Checkpoint::Open(flags.model);
  const bench::OpFigures figures =
      bench::MeasureOps(checkpoint->config(), numerics,
                        {static_cast<int>(flags.threads), flags.rows, flags.context, flags.seconds});
  fmt::print("{} thread{}, {}: {} fp32 lanes; peak measured by independent FMAs: {:.0f} GFLOP/s\n\n",
             figures.threads, figures.threads == 1 ? "" : "s", figures.unit.name, figures.unit.lanes,
             figures.peak / 1e9);
  fmt::print("{:<44} {:>6} {:>12} {:>9} {:>10}\n", "op", "rows", "us", "GFLOP/s", "% of peak");
  for (const bench::OpFigure& op : figures.ops) {
    const double rate = op.operations / op.seconds;
    fmt::print("{:<44} {:>6} {:>12.1f} {:>9.1f} {:>10.1f}\n", op.name, op.rows, 1e6 * op.seconds, rate / 1e9,
               100.0 * rate / figures.peak);
    sink.Add({{"kind", "ops"},
              {"op", op.name},
              {"rows", op.rows},
              {"numerics", flags.numerics},
              {"threads", figures.threads},
              {"us", 1e6 * op.seconds},
              {"flops_per_second", rate},
              {"peak_flops_per_second", figures.peak}});
  }
}

struct CommFlags {
  std::string plane = "all";
  int64_t ranks = 2;
  std::vector<int64_t> bytes{4096, 1 << 20, 16 << 20};
  int64_t repeats = 20;
  OutputFlags output;
};

void BenchComm(const CommFlags& flags) {
  CheckRange("--ranks", {flags.ranks}, 2, 64);
  CheckRange("--bytes", flags.bytes, 1, int64_t{1} << 32);
  CheckRange("--repeats", {flags.repeats}, 1, 1'000'000);
  if (flags.plane != "all" && flags.plane != "threads" && flags.plane != "gloo") {
    Fail(ErrorKind::kUsage, "--plane {} is not known: use threads, gloo or all", flags.plane);
  }
  ResultSink sink(flags.output);
  fmt::print("{:<10} {:<12} {:>6} {:>12} {:>12} {:>8}\n", "plane", "op", "ranks", "bytes", "us", "GB/s");
  for (const bool tcp : {false, true}) {
    const char* plane = tcp ? "gloo" : "threads";
    if (flags.plane != "all" && flags.plane != plane) continue;
    for (const bench::CommFigure& figure : bench::MeasureComm(
             {tcp, static_cast<int>(flags.ranks), flags.bytes, static_cast<int>(flags.repeats)})) {
      const int64_t ranks = figure.op == "hop" ? 2 : flags.ranks;
      const double rate = figure.moved / figure.seconds / 1e9;
      fmt::print("{:<10} {:<12} {:>6} {:>12} {:>12.1f} {:>8.2f}\n", plane, figure.op, ranks, figure.bytes,
                 1e6 * figure.seconds, rate);
      sink.Add({{"kind", "comm"},
                {"plane", plane},
                {"op", figure.op},
                {"ranks", ranks},
                {"bytes", figure.bytes},
                {"us", 1e6 * figure.seconds},
                {"gb_per_second", rate}});
    }
  }
}

}  // namespace

void AddBenchPartsCommands(CLI::App& group) {
  auto ops_flags = std::make_shared<OpsFlags>();
  CLI::App* ops =
      group.add_subcommand("ops", "The CPU ops at a model's shapes, beside the peak of the machine");
  ops->add_option("--model-path,--model", ops_flags->model, "Whose shapes: a checkpoint, or random:PRESET")
      ->capture_default_str();
  ops->add_option("--numerics", ops_flags->numerics, "exact, or fp8 (its linears)")->capture_default_str();
  ops->add_option("--threads", ops_flags->threads, "Threads that compute")->capture_default_str();
  ops->add_option("--rows", ops_flags->rows, "Rows of a step; a list measures each")
      ->delimiter(',')
      ->capture_default_str();
  ops->add_option("--context", ops_flags->context, "Keys that the indexer scores")
      ->transform(HumanCount())
      ->capture_default_str();
  ops->add_option("--seconds", ops_flags->seconds, "Of each measurement")->capture_default_str();
  AddOutputFlags(*ops, ops_flags->output);
  ops->callback([ops_flags] { BenchOps(*ops_flags); });

  auto comm_flags = std::make_shared<CommFlags>();
  CLI::App* comm = group.add_subcommand("comm", "Hops and all-gathers of the CPU data planes, on this host");
  comm->add_option("--plane", comm_flags->plane, "threads, gloo (TCP over the loopback) or all")
      ->capture_default_str();
  comm->add_option("--ranks", comm_flags->ranks, "Of an all-gather")->capture_default_str();
  comm->add_option("--bytes", comm_flags->bytes, "Of a hop, and of a rank's part; a list measures each")
      ->delimiter(',')
      ->transform(HumanCount())
      ->capture_default_str();
  comm->add_option("--repeats", comm_flags->repeats, "Of each; the fastest is told")->capture_default_str();
  AddOutputFlags(*comm, comm_flags->output);
  comm->callback([comm_flags] { BenchComm(*comm_flags); });
}

}  // namespace sluice::cli
