#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "gpu_ops_bench.h"
#include "ops/cache_format.h"
#include "ops/cuda/gemm.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;

constexpr int64_t kHidden = 7168;
constexpr int64_t kHeads = 128;

// y = x W^T in FP8, dense or for groups of rows with a weight each.
void Fp8Gemm(Bench& bench, std::string_view name, int64_t rows, int64_t outputs, int64_t inputs,
             const std::vector<ops::cuda::RowGroup>& groups = {}) {
  const int64_t weights = std::max<int64_t>(1, std::ssize(groups));
  const int64_t blocks = CeilDiv(inputs, ops::kQuantBlock);
  const bool few = rows <= kFewRows || rows < kFewRows * weights;
  const int64_t weight_bytes = weights * outputs * inputs;
  const int64_t copies = few && groups.empty() ? bench.Copies(weight_bytes) : 1;
  const DeviceArray x(rows * inputs, RandomCodes());
  const DeviceArray x_scales(rows * blocks * 4, RandomScales());
  const DeviceArray w(copies * weight_bytes, RandomCodes());
  const DeviceArray w_scales(weights * CeilDiv(outputs, ops::kQuantBlock) * blocks * 4, RandomScales());
  const DeviceArray y(rows * outputs * 2);
  const DeviceArray on_device(groups);
  ops::cuda::Gemm gemm;
  gemm.rows = rows;
  gemm.inputs = inputs;
  gemm.outputs = outputs;
  gemm.weights = weights;
  gemm.x = x.as();
  gemm.x_stride = inputs;
  gemm.x_scales = x_scales.as<float>();
  gemm.w_scales = w_scales.as<float>();
  gemm.y = y.as();
  gemm.y_stride = outputs;
  if (!groups.empty()) {
    gemm.groups = on_device.as<ops::cuda::RowGroup>();
    gemm.group_count = static_cast<int32_t>(groups.size());
  }
  const auto enqueue = [&](int i, cudaStream_t stream) {
    gemm.w = w.as(i % copies * weight_bytes);
    Check(Enqueue(gemm, bench.counter(), bench.sms(), stream), "a GEMM");
  };
  const std::string shape = groups.empty() ? fmt::format("m {}, n {}, k {}", rows, outputs, inputs)
                                           : fmt::format("{} experts x {} rows, n {}, k {}", weights,
                                                         rows / weights, outputs, inputs);
  const double moved = static_cast<double>(weight_bytes + x.bytes() + y.bytes());
  bench.Time(name, shape, {Unit::kFp8, 2.0 * static_cast<double>(rows * outputs * inputs), moved},
             {enqueue, few ? kPerGraph : 1});
}

void Fp8Gemms(Bench& bench) {
  constexpr std::string_view kDense = "GEMM fp8";
  constexpr std::string_view kGrouped = "GEMM fp8, grouped";
  struct Linear {
    int64_t outputs, inputs;
  };
  // q_a with kv_a; q_b; o; shared experts' gate with up, down; dense gate with up; index queries; kv_b.
  constexpr Linear kLinears[] = {{2112, kHidden}, {24576, 1536},    {kHidden, 16384}, {4096, kHidden},
                                 {kHidden, 2048}, {36864, kHidden}, {8192, 1536},     {32768, 512}};
  if (bench.Wants(kDense)) {
    for (const Linear& linear : kLinears) {
      for (const int64_t rows : {4096, 1024, 128, 16})
        Fp8Gemm(bench, kDense, rows, linear.outputs, linear.inputs);
    }
  }
  struct Experts {
    int32_t count, rows;
  };
  // Of a prompt's chunk, and of a decode step.
  constexpr Experts kExperts[] = {{32, 1024}, {32, 256}, {256, 128}, {32, 64}, {32, 16}, {32, 4}};
  for (const Experts& experts : kExperts) {
    if (!bench.Wants(kGrouped)) return;
    std::vector<ops::cuda::RowGroup> groups;
    for (int32_t i = 0; i < experts.count; ++i)
      groups.push_back({i * experts.rows, (i + 1) * experts.rows, i});
    const int64_t rows = int64_t{experts.count} * experts.rows;
    Fp8Gemm(bench, kGrouped, rows, 4096, kHidden, groups);
    Fp8Gemm(bench, kGrouped, rows, kHidden, 2048, groups);
  }
}

// W_uk^T and W_uv of every head, the router, and the head of the model.
void Bf16Gemms(Bench& bench) {
  struct Linear {
    const char* name;
    int64_t rows, outputs, inputs, batches, x_step, y_step;
    DType y_type;
  };
  constexpr Linear kLinears[] = {
      {"GEMM bf16, absorbed query", 4096, 512, 128, kHeads, 192, 576, DType::kBF16},
      {"GEMM bf16, value up", 4096, 128, 512, kHeads, 512, 128, DType::kBF16},
      {"GEMM bf16, router", 4096, 256, kHidden, 1, 0, 0, DType::kF32},
      {"GEMM bf16, head", 256, 129280, kHidden, 1, 0, 0, DType::kF32},
      {"GEMM bf16, head", 16, 129280, kHidden, 1, 0, 0, DType::kF32},
  };
  for (const Linear& linear : kLinears) {
    if (!bench.Wants(linear.name)) continue;
    ops::cuda::Gemm gemm;
    gemm.type = DType::kBF16;
    gemm.rows = linear.rows;
    gemm.inputs = linear.inputs;
    gemm.outputs = linear.outputs;
    gemm.weights = gemm.batches = linear.batches;
    gemm.x_step = linear.x_step;
    gemm.y_step = linear.y_step;
    gemm.x_stride = linear.batches == 1 ? linear.inputs : linear.batches * linear.x_step;
    gemm.y_type = linear.y_type;
    gemm.y_stride = linear.batches == 1 ? linear.outputs : linear.batches * linear.y_step;
    const DeviceArray x(gemm.rows * gemm.x_stride * 2, RandomBf16());
    const DeviceArray w(gemm.weights * gemm.outputs * gemm.inputs * 2, RandomBf16());
    const DeviceArray y(gemm.rows * gemm.y_stride * SizeOf(gemm.y_type));
    gemm.x = x.as();
    gemm.w = w.as();
    gemm.y = y.as();
    const auto products = static_cast<double>(gemm.rows * gemm.outputs * gemm.inputs * gemm.batches);
    const double read = 2.0 * static_cast<double>(gemm.rows * gemm.batches * gemm.inputs);
    const double written = static_cast<double>(gemm.rows * gemm.batches * gemm.outputs * SizeOf(gemm.y_type));
    bench.Time(linear.name,
               fmt::format("m {}, {}n {}, k {}", gemm.rows,
                           gemm.batches > 1 ? fmt::format("{} heads, ", gemm.batches) : "", gemm.outputs,
                           gemm.inputs),
               {Unit::kBf16, 2.0 * products, read + written + static_cast<double>(w.bytes())},
               {[&](int, cudaStream_t stream) {
                 Check(Enqueue(gemm, bench.counter(), bench.sms(), stream), "a GEMM");
               }});
  }
}

}  // namespace

void TimeLinears(Bench& bench) {
  Fp8Gemms(bench);
  Bf16Gemms(bench);
}

}  // namespace sluice::bench
