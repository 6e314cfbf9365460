// Speed of the GPU kernels at the shapes of DeepSeek-V3.2 and GLM-5, beside what the card can do (a copy
// measured in the same run, and what its tensor cores do at its highest clock) and beside the best public
// kernels as measured on another H200 on another day. Bars, where one is set, are scaled by what NVIDIA's
// library makes of one product in this process, against the same on that day.
//
//   gpu_ops_bench [--filter TEXT] [--sustained SECONDS] [--cublaslt FILE] [--json FILE]
//
// us is of bursts, sustained us of launches without a rest (gpu_timing.h), in a table behind the other. Where
// a launch is of few rows, it reads other operands than the launch before, as a model's layers do: the
// weights come from memory, not from the L2 cache.
#include "gpu_ops_bench.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "base/checked.h"
#include "base/error.h"
#include "gpu_main.h"
#include "gpu_report.h"
#include "ops/cuda/device.h"

namespace sluice::bench {

using ops::cuda::Check;

namespace {

constexpr double kAnchorsLibrary = 1564e12;  // FLOP a second of that product on the anchors' day

std::string Number(const nlohmann::json& line, const char* key, int digits) {
  return line.contains(key) ? fmt::format("{:.{}f}", line[key].get<double>(), digits) : "";
}

}  // namespace

Bench::Bench(const Options& options) : options_(options), limits_(MeasureLimits(stream_)) {
  const std::string gpu = GpuName();
  sensors_.Take();
  library_ = MeasureLibrary(options.cublaslt, stream_);
  const Sensors::Reading reading = sensors_.Take();
  fmt::print(
      "{}, driver {}, {} SMs, at most {:.0f} MHz; copy {:.2f} TB/s read and written; tensor cores at that "
      "clock {:.0f} TFLOP/s fp8, {:.0f} bf16\n",
      gpu, sensors_.DriverVersion(), limits_.sms, limits_.clock / 1e6, limits_.copy / 1e12,
      limits_.Fp8() / 1e12, limits_.Bf16() / 1e12);
  if (library_.flops > 0.0) {
    scale_ = kAnchorsLibrary / library_.flops;
    fmt::print("{}: {:.0f} TFLOP/s ({} MHz, {:.0f} W), {:.3f} of the anchors' day; bars are scaled by it\n\n",
               library_.what, library_.flops / 1e12, reading.lowest_mhz, reading.most_watts, 1.0 / scale_);
  } else {
    fmt::print("The library's figure is not measured, bars are not scaled: {}\n\n", library_.what);
  }
  report_ = {
      {"gpu", gpu},
      {"driver", sensors_.DriverVersion()},
      {"copy_bytes_per_s", limits_.copy},
      {"fp8_flops", limits_.Fp8()},
      {"library", {{"what", library_.what}, {"flops", library_.flops}, {"anchors_day", kAnchorsLibrary}}},
      {"lines", nlohmann::json::array()}};
  fmt::print(
      "| kernel | shape | us | TFLOP/s | TB/s | limit | % of it | MHz, lowest | W, highest | anchor us | "
      "bar us | kept |\n");
  fmt::print("| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |\n");
}

bool Bench::BeginSustained() {
  sustaining_ = true;
  const auto& lines = report_["lines"];
  if (std::none_of(lines.begin(), lines.end(), [](const auto& line) { return line.contains("sustained"); })) {
    return false;
  }
  fmt::print("\nWithout a rest, {} s each:\n\n", options_.sustained);
  fmt::print("| kernel | shape | sustained us | / burst | MHz, lowest | W, highest |\n");
  fmt::print("| --- | --- | ---: | ---: | ---: | ---: |\n");
  return true;
}

nlohmann::json* Bench::Find(std::string_view kernel, std::string_view shape) {
  for (auto& line : report_["lines"]) {
    if (line["kernel"] == kernel && line["shape"] == shape) return &line;
  }
  return nullptr;
}

bool Bench::Wants(std::string_view kernel, std::string_view shape) {
  if (sustaining_) {
    const nlohmann::json* line = Find(kernel, shape);
    return line != nullptr && line->contains("sustained");
  }
  return fmt::format("{}: {}", kernel, shape).find(options_.filter) != std::string::npos;
}

int64_t Bench::Copies(int64_t bytes) const {
  return std::clamp<int64_t>(CeilDiv(3 * limits_.second_level_bytes, bytes), 2, kPerGraph);
}

double Bench::Time(std::string_view kernel, const std::string& shape, const Floor& floor, const Work& work,
                   const Bar& bar, Sustained sustained) {
  if (sustaining_) return TimeSustained(*Find(kernel, shape), work);
  sensors_.Take();
  const double seconds = BurstSeconds(work, stream_);
  nlohmann::json line = {{"us", 1e6 * seconds}, {"bytes_per_s", floor.bytes / seconds}};
  if (sustained == Sustained::kYes && options_.sustained > 0.0) line["sustained"] = nullptr;  // until then
  const Sensors::Reading reading = sensors_.Take();
  const double tensor = floor.unit == Unit::kNone
                            ? 0.0
                            : floor.operations / (floor.unit == Unit::kFp8 ? limits_.Fp8() : limits_.Bf16());
  const double memory = floor.bytes / limits_.copy;
  if (floor.operations > 0.0) line["tflops"] = floor.operations / seconds / 1e12;
  line["tbps"] = floor.bytes / seconds / 1e12;
  line["limit"] = tensor > memory ? "tensor" : "memory";
  line["percent"] = 100.0 * std::max(tensor, memory) / seconds;
  line["mhz"] = reading.lowest_mhz;
  line["watts"] = reading.most_watts;
  Line(kernel, shape, std::move(line), bar);
  return seconds;
}

double Bench::TimeSustained(nlohmann::json& line, const Work& work) {
  sensors_.Take();
  const double burst_us = line["us"];
  const double seconds = SustainedSeconds(work, burst_us / 1e6, options_.sustained, stream_);
  const Sensors::Reading reading = sensors_.Take();
  line["sustained"] = {{"us", 1e6 * seconds}, {"mhz", reading.lowest_mhz}, {"watts", reading.most_watts}};
  fmt::print("| {} | {} | {:.1f} | {:.2f} | {} | {:.0f} |\n", line["kernel"].get<std::string>(),
             line["shape"].get<std::string>(), 1e6 * seconds, 1e6 * seconds / burst_us, reading.lowest_mhz,
             reading.most_watts);
  std::fflush(stdout);
  return seconds;
}

void Bench::Sum(std::string_view kernel, const std::string& shape, double seconds, const Bar& bar) {
  if (sustaining_) return;
  Line(kernel, shape, {{"us", 1e6 * seconds}}, bar);
}

void Bench::Line(std::string_view kernel, const std::string& shape, nlohmann::json line, const Bar& bar) {
  line["kernel"] = kernel;
  line["shape"] = shape;
  if (bar.anchor_us > 0.0) line["anchor_us"] = bar.anchor_us;
  if (bar.most_us > 0.0) {
    line["bar_us"] = bar.most_us * scale_;
    line["kept"] = line["us"].get<double>() <= bar.most_us * scale_;
  }
  fmt::print("| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", kernel, shape,
             Number(line, "us", 1), Number(line, "tflops", 0), Number(line, "tbps", 2),
             line.value("limit", ""), Number(line, "percent", 0), Number(line, "mhz", 0),
             Number(line, "watts", 0), Number(line, "anchor_us", 1), Number(line, "bar_us", 1),
             !line.contains("kept") ? ""
             : line["kept"]         ? "yes"
                                    : "NO");
  std::fflush(stdout);
  report_["lines"].push_back(std::move(line));
  ++timed_;
}

namespace {

void TimeAll(Bench& bench) {
  TimeLinears(bench);
  TimeIndexer(bench);
  TimeAttention(bench);
  TimeOpsOnRows(bench);
}

void Run(const Bench::Options& options, const std::string& json) {
  ops::cuda::CheckDevice(0);
  Bench bench(options);
  TimeAll(bench);
  if (bench.timed() == 0) {
    Fail(ErrorKind::kUsage, "no kernel and shape, as in \"GEMM fp8: m 16\", has \"{}\" in it",
         options.filter);
  }
  int bars = 0;
  int kept = 0;
  for (const auto& line : bench.report()["lines"]) {
    bars += line.contains("kept") ? 1 : 0;
    kept += line.value("kept", false) ? 1 : 0;
  }
  fmt::print("\n{} lines; {} of {} bars kept\n", bench.timed(), kept, bars);
  if (bench.BeginSustained()) TimeAll(bench);
  WriteFigures(json, bench.report());
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Bench::Options options;
  std::string json;
  CLI::App app("Speed of the GPU kernels, beside the card's limits and the best public kernels.");
  app.add_option("--filter", options.filter, "Only kernels and shapes that have this in \"kernel: shape\".");
  app.add_option("--sustained", options.sustained, "Seconds of launches without a rest; 0: none.")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--cublaslt", options.cublaslt, "NVIDIA's library, if the system does not find it.");
  sluice::bench::AddJsonFlag(app, json);
  CLI11_PARSE(app, argc, argv);
  return sluice::bench::Main("gpu_ops_bench", [&] { sluice::bench::Run(options, json); });
}
