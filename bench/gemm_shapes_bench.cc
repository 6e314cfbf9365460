// Which tile is the fastest for which linear: every shape of kTileShapes (ops/cuda/gemm_launch.h) at the
// shapes of DeepSeek-V3.2. A line for each linear, us: the costs in ops/cuda/gemm.cc come from it.
//
//   gemm_shapes_bench [PART]      only linears whose name has PART in it
//
// The columns are named by the tile of a block; the first two are of pairs of blocks. -: not for this type.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/checked.h"
#include "gpu_event.h"
#include "gpu_main.h"
#include "gpu_operands.h"
#include "gpu_timing.h"
#include "ops/cuda/check.h"
#include "ops/cuda/device.h"
#include "ops/cuda/gemm_launch.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;
using ops::cuda::IsFor;
using ops::cuda::kTileShapeCount;
using ops::cuda::kTileShapes;

std::string NameOf(const Linear& at) {
  return fmt::format("{}{}", at.type == DType::kBF16 ? "bf16 " : "fp8 ", at.Name());
}

// Median of a few launches, rested a little; short ones as a graph of launches with other weights each.
double Seconds(const std::function<void(int, cudaStream_t)>& enqueue, bool few, cudaStream_t stream) {
  constexpr int kLaunches = 20;
  enqueue(0, stream);
  Check(cudaStreamSynchronize(stream), "a launch");
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t run = nullptr;
  if (few) {
    Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "a graph");
    for (int i = 0; i < kLaunches; ++i) enqueue(i, stream);
    Check(cudaStreamEndCapture(stream, &graph), "a graph");
    Check(cudaGraphInstantiate(&run, graph, 0), "a graph");
  }
  std::vector<double> times;
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  Event events[4];
  for (int i = 0; i < 4; ++i) {
    if (few) {
      Check(cudaGraphLaunch(run, stream), "a graph");
    } else {
      enqueue(i, stream);
    }
    events[i].Record(stream);
  }
  Check(cudaStreamSynchronize(stream), "a launch");
  for (int i = 1; i < 4; ++i) times.push_back(events[i].MsSince(events[i - 1]) / 1e3);
  std::sort(times.begin(), times.end());
  if (few) {
    cudaGraphExecDestroy(run);
    cudaGraphDestroy(graph);
  }
  return times[1] / (few ? kLaunches : 1);
}

void Time(const Linear& at, cudaStream_t stream, int sms) {
  const int64_t copies =
      at.few() ? std::clamp<int64_t>(CeilDiv(int64_t{180} << 20, at.weight_bytes()), 1, 20) : 1;
  const LinearOperands operands(at, copies);
  const DeviceArray counter(ops::cuda::kCounterNumbers * sizeof(int32_t));
  fmt::print("{:40}", NameOf(at));
  for (int shape = 0; shape < kTileShapeCount; ++shape) {
    if (!IsFor(shape, at.type)) {
      fmt::print(" {:>7}", "-");
      continue;
    }
    const double seconds = Seconds(
        [&](int i, cudaStream_t on) {
          Check(EnqueueWithShape(operands.Launch(i), shape, counter.as<int32_t>(), sms, on), "a GEMM");
        },
        at.few(), stream);
    fmt::print(" {:7.1f}", 1e6 * seconds);
    std::fflush(stdout);
  }
  fmt::print("\n");
}

void Run(std::string_view part) {
  ops::cuda::CheckDevice(0);
  int sms = 0;
  Check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "counting SMs");
  const ops::cuda::Stream stream;
  std::vector<Linear> linears;
  constexpr int64_t kWeights[][2] = {{2112, 7168}, {24576, 1536}, {7168, 16384}, {4096, 7168},
                                     {7168, 2048}, {36864, 7168}, {8192, 1536},  {32768, 512}};
  for (const auto& [outputs, inputs] : kWeights) {
    for (const int64_t rows : {4096, 1024, 128, 16})
      linears.push_back({.rows = rows, .outputs = outputs, .inputs = inputs});
  }
  constexpr int64_t kExperts[][2] = {{32, 1024}, {32, 256}, {256, 128}, {32, 64}, {32, 16}, {32, 4}};
  for (const auto& [experts, rows] : kExperts) {
    linears.push_back({.rows = experts * rows, .outputs = 4096, .inputs = 7168, .experts = experts});
    linears.push_back({.rows = experts * rows, .outputs = 7168, .inputs = 2048, .experts = experts});
  }
  constexpr DType kB = DType::kBF16;
  for (const int64_t rows : {4096, 1024, 128, 16}) {
    linears.push_back({kB, rows, 512, 128, 0, 128, 192, 576, kB});
    linears.push_back({kB, rows, 128, 512, 0, 128, 512, 128, kB});
    linears.push_back({kB, rows, 256, 7168, 0, 1, 0, 0, DType::kF32});
  }
  linears.push_back({kB, 256, 129280, 7168, 0, 1, 0, 0, DType::kF32});
  linears.push_back({kB, 16, 129280, 7168, 0, 1, 0, 0, DType::kF32});
  fmt::print("{:40}", "us");
  for (const auto& shape : kTileShapes) {
    fmt::print(" {:>7}", fmt::format("{}x{}", shape.rows(), shape.outputs()));
  }
  fmt::print("\n");
  for (const Linear& linear : linears) {
    if (NameOf(linear).find(part) != std::string::npos) Time(linear, stream, sms);
  }
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  return sluice::bench::Main("gemm_shapes_bench", [&] { sluice::bench::Run(argc > 1 ? argv[1] : ""); });
}
