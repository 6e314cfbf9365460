// What kernels that hold an SM each cost a persistent kernel beside them: one or four neighbours
// (neighbours.h) beside the index scores and the linears, with tiles drawn from a counter, as they are; with
// fixed tiles, block b of n taking b, b + n, ...; and on as many SMs fewer as there are neighbours. Fixed
// tiles are for comparison: there a block whose SM is held begins when another has ended, and has as much to
// do.
//
//   sm_theft_bench [--json FILE] [--svg FILE]
//
// Device time between events around a launch or, of short kernels, several; medians of kRounds, all cases of
// a kernel taking turns, with rests.
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "gpu_event.h"
#include "gpu_main.h"
#include "gpu_operands.h"
#include "gpu_report.h"
#include "gpu_timing.h"
#include "median.h"
#include "neighbours.h"
#include "ops/cuda/check.h"
#include "ops/cuda/device.h"
#include "theft_chart.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;

constexpr int kRounds = 9;
constexpr double kLeastMs = 0.4;  // of what is timed at once
constexpr double kMostTheft = 1.02;
constexpr double kMostCounterCost = 1.01;

struct Case {
  bool fixed_tiles = false;
  int reserved = 0;
  int neighbours = 0;
  auto operator<=>(const Case&) const = default;
  std::string Name() const {
    return fmt::format("{}, {} reserved, {} beside", fixed_tiles ? "fixed" : "counter", reserved, neighbours);
  }
};
constexpr Case kCases[] = {{false, 0, 0}, {false, 0, 1}, {false, 0, 4}, {true, 0, 0},
                           {true, 0, 1},  {true, 0, 4},  {false, 1, 0}, {false, 1, 1},
                           {false, 4, 0}, {false, 4, 4}, {false, 8, 4}};

// A kernel to be launched on so many SMs, and what it wrote.
struct Kernel {
  std::string name;
  std::function<void(bool fixed_tiles, int sms, cudaStream_t stream)> launch;
  const DeviceArray* output = nullptr;
};

class Card {
 public:
  Card() {
    Check(cudaDeviceGetAttribute(&sms_, cudaDevAttrMultiProcessorCount, 0), "counting SMs");
    Check(neighbours_.Prepare(), "neighbours");
  }
  int sms() const { return sms_; }
  Sensors& sensors() { return sensors_; }

  // Milliseconds of a launch.
  double Measure(const Kernel& kernel, const Case& at, int launches) {
    if (at.neighbours > 0) Check(neighbours_.Begin(at.neighbours), "{} neighbours", at.neighbours);
    // Gives the device something to do until everything behind it is enqueued.
    Check(cudaMemsetAsync(before_.as(), 0, static_cast<size_t>(before_.bytes()), stream_), "clearing");
    begin_.Record(stream_);
    for (int i = 0; i < launches; ++i) kernel.launch(at.fixed_tiles, sms_ - at.reserved, stream_);
    end_.Record(stream_);
    Check(cudaStreamSynchronize(stream_), "{}", kernel.name);
    if (at.neighbours > 0) Check(neighbours_.End(), "neighbours");
    return end_.MsSince(begin_) / launches;
  }

 private:
  int sms_ = 0;
  const ops::cuda::Stream stream_;
  Neighbours neighbours_;
  Sensors sensors_;
  DeviceArray before_{int64_t{256} << 20};
  Event begin_, end_;
};

std::vector<std::byte> Bytes(const DeviceArray& array) {
  std::vector<std::byte> bytes(static_cast<size_t>(std::min<int64_t>(array.bytes(), int64_t{64} << 20)));
  Check(cudaMemcpy(bytes.data(), array.as(), bytes.size(), cudaMemcpyDefault), "reading an output");
  return bytes;
}

// Fixed tiles are the same tiles.
void CheckBits(Card& card, const Kernel& kernel) {
  card.Measure(kernel, {}, 1);
  const std::vector<std::byte> drawn = Bytes(*kernel.output);
  Check(cudaMemset(kernel.output->as(), 0, drawn.size()), "clearing an output");
  card.Measure(kernel, {.fixed_tiles = true, .reserved = 4, .neighbours = 4}, 1);
  SLUICE_CHECK(Bytes(*kernel.output) == drawn, "fixed tiles change what {} writes", kernel.name);
}

using Medians = std::map<Case, double>;

Medians MeasureAll(Card& card, const Kernel& kernel) {
  CheckBits(card, kernel);
  const int launches = 1 + static_cast<int>(kLeastMs / card.Measure(kernel, {}, 1));
  std::map<Case, std::vector<double>> times;
  for (int round = -1; round < kRounds; ++round) {
    for (const Case& at : kCases) {
      std::this_thread::sleep_for(std::chrono::milliseconds(15));
      const double ms = card.Measure(kernel, at, launches);
      if (round >= 0) times[at].push_back(ms);
    }
  }
  Medians medians;
  for (const auto& [at, of] : times) medians[at] = Median(of);
  return medians;
}

struct Report {
  nlohmann::json kernels = nlohmann::json::array();
  std::vector<TheftRow> rows;
  int bars = 0;
  int missed = 0;
};

void Add(Report& report, Card& card, const Kernel& kernel) {
  card.sensors().Take();
  const Medians ms = MeasureAll(card, kernel);
  const Sensors::Reading reading = card.sensors().Take();
  const double alone = ms.at({});
  const double fixed = ms.at({.fixed_tiles = true});
  TheftRow row;
  row.kernel = kernel.name;
  for (const int beside : {1, 4}) {
    const size_t i = beside == 1 ? 0 : 1;
    row.fixed[i] = ms.at({.fixed_tiles = true, .neighbours = beside}) / fixed;
    row.counter[i] = ms.at({.neighbours = beside}) / alone;
    row.reserved[i] = ms.at({.reserved = beside, .neighbours = beside}) / alone;
  }
  nlohmann::json times;
  for (const auto& [at, median] : ms) times[at.Name()] = median;
  fmt::print(
      "| {} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {} | {:.0f} "
      "|\n",
      kernel.name, alone, alone / fixed, row.fixed[0], row.fixed[1], row.counter[0], row.counter[1],
      row.reserved[0], row.reserved[1], ms.at({.reserved = 8, .neighbours = 4}) / alone, reading.lowest_mhz,
      reading.most_watts);
  std::fflush(stdout);
  const auto judge = [&](double ratio, double most) {
    ++report.bars;
    report.missed += ratio > most ? 1 : 0;
  };
  for (const int i : {0, 1}) {
    judge(row.counter[i], kMostTheft);
    judge(row.reserved[i], kMostTheft);
  }
  judge(alone / fixed, kMostCounterCost);
  report.kernels.push_back(
      {{"kernel", kernel.name}, {"ms", times}, {"mhz", reading.lowest_mhz}, {"watts", reading.most_watts}});
  report.rows.push_back(row);
}

void AddScores(Report& report, Card& card, int64_t rows) {
  const ScoreOperands operands(64, 1, rows, 65536);
  const DeviceArray counter(ops::cuda::kCounterNumbers * sizeof(int32_t));
  Add(report, card,
      {fmt::format("scores, {} rows, 64K keys", rows),
       [&](bool fixed_tiles, int sms, cudaStream_t stream) {
         ops::cuda::IndexScores work = operands.Launch();
         work.fixed_tiles = fixed_tiles;
         Check(Enqueue(work, counter.as<int32_t>(), sms, stream), "scores");
       },
       &operands.scores()});
}

void AddLinear(Report& report, Card& card, const Linear& linear) {
  const LinearOperands operands(linear);
  const DeviceArray counter(ops::cuda::kCounterNumbers * sizeof(int32_t));
  Add(report, card,
      {linear.experts > 0 ? linear.Name() : "linear, " + linear.Name(),
       [&](bool fixed_tiles, int sms, cudaStream_t stream) {
         ops::cuda::Gemm gemm = operands.Launch();
         gemm.fixed_tiles = fixed_tiles;
         Check(Enqueue(gemm, counter.as<int32_t>(), sms, stream), "a linear");
       },
       &operands.y()});
}

void Run(const std::string& json, const std::string& svg) {
  ops::cuda::CheckDevice(0);
  Check(cudaSetDevice(0), "choosing GPU 0");
  const std::string gpu = GpuName();
  Card card;
  fmt::print("{}, driver {}, {} SMs; times as multiples of the same tiles alone on all SMs\n\n", gpu,
             card.sensors().DriverVersion(), card.sms());
  fmt::print(
      "| kernel | alone, ms | counter / fixed, alone | fixed, 1 beside | 4 | counter, 1 beside | 4 | "
      "reserved, 1 beside | 4 | 8 reserved, 4 beside | MHz, lowest | W, highest |\n"
      "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
  Report report;
  for (const int64_t rows : {1024, 4096}) AddScores(report, card, rows);
  // o; q_b; shared experts' gate with up.
  constexpr int64_t kWeights[][2] = {{7168, 16384}, {24576, 1536}, {4096, 7168}};
  for (const auto& [outputs, inputs] : kWeights) {
    for (const int64_t rows : {1024, 4096}) {
      AddLinear(report, card, {.rows = rows, .outputs = outputs, .inputs = inputs});
    }
  }
  // Of one of 8 lanes that have 1024 or 4096 rows each: 8 of 256 experts a row, 32 of them here.
  for (const int64_t rows : {1024, 4096}) {
    AddLinear(report, card, {.rows = 8 * rows, .outputs = 4096, .inputs = 7168, .experts = 32});
  }
  fmt::print("\n{} of {} bars kept ({} of alone beside neighbours, {} for the counter alone)\n",
             report.bars - report.missed, report.bars, kMostTheft, kMostCounterCost);
  WriteFigures(json, {{"gpu", gpu},
                      {"driver", card.sensors().DriverVersion()},
                      {"sms", card.sms()},
                      {"kernels", report.kernels}});
  if (!svg.empty()) std::ofstream(svg) << TheftChart(report.rows, gpu);
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  std::string json;
  std::string svg;
  CLI::App app("What kernels that hold an SM cost the persistent kernels beside them, on GPU 0.");
  sluice::bench::AddJsonFlag(app, json);
  app.add_option("--svg", svg, "A file for the picture.");
  CLI11_PARSE(app, argc, argv);
  return sluice::bench::Main("sm_theft_bench", [&] { sluice::bench::Run(json, svg); });
}
