// Speed of the GPU kernels at the shapes of DeepSeek-V3.2, beside what the card can do: a copy measured in
// the same run, and what its tensor cores do at its highest clock.
//
//   gpu_ops_bench [PART]      only kernels whose name has PART in it
//
// Times are of bursts (gpu_timing.h). Where a launch is of few rows, it reads other operands than the launch
// before, as a model's layers do: the weights come from memory, not from the L2 cache.
#include "gpu_ops_bench.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cuda/device.h"

namespace sluice::bench {

using ops::cuda::Check;

Bench::Bench(std::string_view part) : part_(part), limits_(MeasureLimits(stream_)) {
  cudaDeviceProp properties{};
  Check(cudaGetDeviceProperties(&properties, 0), "reading the device's name");
  fmt::print(
      "{}, driver {}, {} SMs, at most {:.0f} MHz; copy {:.2f} TB/s read and written; tensor cores at that "
      "clock {:.0f} TFLOP/s fp8, {:.0f} bf16\n\n",
      properties.name, sensors_.DriverVersion(), limits_.sms, limits_.clock / 1e6, limits_.copy / 1e12,
      limits_.Fp8() / 1e12, limits_.Bf16() / 1e12);
  fmt::print("| kernel | shape | us | TFLOP/s | TB/s | limit | % of it | MHz, lowest | W, highest |\n");
  fmt::print("| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |\n");
}

int64_t Bench::Copies(int64_t bytes) const {
  return std::clamp<int64_t>(CeilDiv(3 * limits_.second_level_bytes, bytes), 2, kPerGraph);
}

void Bench::Time(std::string_view kernel, const std::string& shape, const Floor& floor, const Work& work) {
  sensors_.Take();
  const double seconds = BurstSeconds(work, stream_);
  const Sensors::Reading reading = sensors_.Take();
  const double tensor = floor.unit == Unit::kNone
                            ? 0.0
                            : floor.operations / (floor.unit == Unit::kFp8 ? limits_.Fp8() : limits_.Bf16());
  const double memory = floor.bytes / limits_.copy;
  fmt::print("| {} | {} | {:.1f} | {} | {:.2f} | {} | {:.0f} | {} | {:.0f} |\n", kernel, shape, 1e6 * seconds,
             floor.operations > 0 ? fmt::format("{:.0f}", floor.operations / seconds / 1e12) : "",
             floor.bytes / seconds / 1e12, tensor > memory ? "tensor" : "memory",
             100.0 * std::max(tensor, memory) / seconds, reading.lowest_mhz, reading.most_watts);
  std::fflush(stdout);
  ++timed_;
}

namespace {

int Run(std::string_view part) {
  ops::cuda::CheckDevice(0);
  Bench bench(part);
  TimeLinears(bench);
  TimeAttention(bench);
  TimeOpsOnRows(bench);
  if (bench.timed() == 0) Fail(ErrorKind::kUsage, "no kernel's name has '{}' in it", part);
  fmt::print("\n{} kernels and shapes timed\n", bench.timed());
  return 0;
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  try {
    return sluice::bench::Run(argc > 1 ? argv[1] : "");
  } catch (const sluice::Error& error) {
    fmt::print(stderr, "gpu_ops_bench: {}\n", error.what());
    return error.kind() == sluice::ErrorKind::kUsage ? 2 : 1;
  }
}
