// Which tile is the fastest for which linear: every shape of kTileShapes (ops/cuda/gemm_launch.h) at the
// shapes of DeepSeek-V3.2. A line for each linear, us: the costs in ops/cuda/gemm.cc come from it.
//
//   gemm_shapes_bench [PART]      only linears whose name has PART in it
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "gpu_event.h"
#include "gpu_timing.h"
#include "ops/cuda/check.h"
#include "ops/cuda/device.h"
#include "ops/cuda/gemm.h"
#include "ops/cuda/gemm_launch.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;
using ops::cuda::kTileShapeCount;
using ops::cuda::kTileShapes;

struct Linear {
  DType type = DType::kF8E4M3;
  int64_t rows, outputs, inputs;
  int64_t experts = 0;  // rows are shared out to them; 0: dense
  int64_t heads = 1;
  int64_t x_step = 0, y_step = 0;
  DType y_type = DType::kBF16;
};

std::string NameOf(const Linear& at) {
  return fmt::format("{}{}m {}, n {}, k {}", at.type == DType::kBF16 ? "bf16 " : "fp8 ",
                     at.experts > 0 ? fmt::format("{} experts, ", at.experts)
                     : at.heads > 1 ? fmt::format("{} heads, ", at.heads)
                                    : "",
                     at.rows, at.outputs, at.inputs);
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
  const int64_t size = SizeOf(at.type);
  const int64_t weights = std::max(at.experts, at.heads);
  const int64_t blocks = CeilDiv(at.inputs, 128);
  const int64_t weight_bytes = weights * at.outputs * at.inputs * size;
  const bool few = at.rows <= 128 || at.rows < 128 * at.experts;
  const int64_t copies = few ? std::clamp<int64_t>(CeilDiv(int64_t{180} << 20, weight_bytes), 1, 20) : 1;
  ops::cuda::Gemm gemm;
  gemm.type = at.type;
  gemm.rows = at.rows;
  gemm.inputs = at.inputs;
  gemm.outputs = at.outputs;
  gemm.weights = weights;
  gemm.batches = at.heads;
  gemm.x_step = at.x_step;
  gemm.y_step = at.y_step;
  gemm.x_stride = at.heads > 1 ? at.heads * at.x_step : at.inputs;
  gemm.y_stride = at.heads > 1 ? at.heads * at.y_step : at.outputs;
  gemm.y_type = at.y_type;
  const auto pattern = at.type == DType::kBF16 ? RandomBf16() : RandomCodes();
  const DeviceArray x(at.rows * gemm.x_stride * size, pattern);
  const DeviceArray w(copies * weight_bytes, pattern);
  const DeviceArray x_scales(at.rows * blocks * 4, RandomScales());
  const DeviceArray w_scales(weights * CeilDiv(at.outputs, 128) * blocks * 4, RandomScales());
  const DeviceArray y(at.rows * gemm.y_stride * SizeOf(at.y_type));
  std::vector<ops::cuda::RowGroup> groups;
  for (int64_t i = 0; i < at.experts; ++i) {
    const int64_t each = at.rows / at.experts;
    groups.push_back(
        {static_cast<int32_t>(i * each), static_cast<int32_t>((i + 1) * each), static_cast<int32_t>(i)});
  }
  const DeviceArray on_device(groups);
  const DeviceArray counter(ops::cuda::kCounterNumbers * sizeof(int32_t));
  gemm.x = x.as();
  gemm.y = y.as();
  gemm.x_scales = x_scales.as<float>();
  gemm.w_scales = w_scales.as<float>();
  if (at.experts > 0) {
    gemm.groups = on_device.as<ops::cuda::RowGroup>();
    gemm.group_count = static_cast<int32_t>(at.experts);
  }
  fmt::print("{:40}", NameOf(at));
  for (int shape = 0; shape < kTileShapeCount; ++shape) {
    const double seconds = Seconds(
        [&](int i, cudaStream_t on) {
          gemm.w = w.as(i % copies * weight_bytes);
          Check(EnqueueWithShape(gemm, shape, counter.as<int32_t>(), sms, on), "a GEMM");
        },
        few, stream);
    fmt::print(" {:7.1f}", 1e6 * seconds);
    std::fflush(stdout);
  }
  fmt::print("\n");
}

int Run(std::string_view part) {
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
  linears.push_back({kB, 4096, 512, 128, 0, 128, 192, 576, kB});
  linears.push_back({kB, 4096, 128, 512, 0, 128, 512, 128, kB});
  linears.push_back({kB, 4096, 256, 7168, 0, 1, 0, 0, DType::kF32});
  linears.push_back({kB, 256, 129280, 7168, 0, 1, 0, 0, DType::kF32});
  linears.push_back({kB, 16, 129280, 7168, 0, 1, 0, 0, DType::kF32});
  fmt::print("{:40}", "us");
  for (const auto& shape : kTileShapes) {
    fmt::print(" {:>7}", fmt::format("{}x{}", shape.all_rows(), shape.outputs()));
  }
  fmt::print("\n");
  for (const Linear& linear : linears) {
    if (NameOf(linear).find(part) != std::string::npos) Time(linear, stream, sms);
  }
  return 0;
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  try {
    return sluice::bench::Run(argc > 1 ? argv[1] : "");
  } catch (const sluice::Error& error) {
    fmt::print(stderr, "gemm_shapes_bench: {}\n", error.what());
    return 1;
  }
}
