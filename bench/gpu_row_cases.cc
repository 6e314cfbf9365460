#include <fmt/format.h>

#include "gpu_ops_bench.h"
#include "ops/cache_format.h"
#include "ops/cuda/quantize_rows.h"
#include "ops/cuda/rms_norm.h"
#include "ops/cuda/swiglu.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;

// x += delta, its norm, and the norm quantised.
void NormAndQuantise(Bench& bench, int64_t rows, int64_t width) {
  const std::string shape = fmt::format("{} rows of {}", rows, width);
  if (!bench.Wants("add, norm, quantise", shape)) return;
  const int64_t bytes = rows * width * 2;
  const int64_t copies = rows <= kFewRows ? kPerGraph : 1;
  const DeviceArray x(copies * bytes, RandomBf16());
  const DeviceArray delta(copies * bytes);
  const DeviceArray weight(width * 4, RandomScales());
  const DeviceArray y(copies * bytes);
  const DeviceArray codes(rows * width);
  const DeviceArray scales(rows * width / ops::kQuantBlock * 4);
  const auto enqueue = [&](int i, cudaStream_t stream) {
    const int64_t first = i % copies * bytes;
    Check(Enqueue(ops::cuda::RmsNorm{.rows = rows,
                                     .width = width,
                                     .x = x.as(first),
                                     .x_stride = width,
                                     .delta = delta.as(first),
                                     .delta_stride = width,
                                     .weight = weight.as<float>(),
                                     .eps = 1e-6F,
                                     .y = y.as(first),
                                     .y_stride = width,
                                     .quantized = {codes.as(), width, scales.as<float>(),
                                                   width / ops::kQuantBlock}},
                  stream),
          "a norm");
  };
  bench.Time("add, norm, quantise", shape,
             {Unit::kNone, 0.0, static_cast<double>(4 * bytes + codes.bytes() + scales.bytes())},
             {enqueue, static_cast<int>(copies)});
}

// Gate and up side by side in a row, as one GEMM makes them.
void SwiGluAndQuantise(Bench& bench, int64_t rows, int64_t width) {
  const std::string shape = fmt::format("{} rows of {}", rows, width);
  if (!bench.Wants("SwiGLU, quantise", shape)) return;
  const DeviceArray pair(rows * width * 4, RandomBf16());
  const DeviceArray codes(rows * width);
  const DeviceArray scales(rows * width / ops::kQuantBlock * 4);
  const auto enqueue = [&](int, cudaStream_t stream) {
    Check(Enqueue(ops::cuda::SwiGlu{.rows = rows,
                                    .width = width,
                                    .gate = pair.as(),
                                    .gate_stride = 2 * width,
                                    .up = pair.as(2 * width),
                                    .up_stride = 2 * width,
                                    .quantized = {codes.as(), width, scales.as<float>(),
                                                  width / ops::kQuantBlock}},
                  stream),
          "SwiGLU");
  };
  bench.Time("SwiGLU, quantise", shape,
             {Unit::kNone, 0.0, static_cast<double>(pair.bytes() + codes.bytes() + scales.bytes())},
             {enqueue});
}

void Quantise(Bench& bench, int64_t rows, int64_t width) {
  const std::string shape = fmt::format("{} rows of {}", rows, width);
  if (!bench.Wants("quantise", shape)) return;
  const DeviceArray x(rows * width * 2, RandomBf16());
  const DeviceArray codes(rows * width);
  const DeviceArray scales(rows * width / ops::kQuantBlock * 4);
  const ops::cuda::QuantizeRows work{
      rows, width, x.as(), width, {codes.as(), width, scales.as<float>(), width / ops::kQuantBlock}};
  bench.Time("quantise", shape,
             {Unit::kNone, 0.0, static_cast<double>(x.bytes() + codes.bytes() + scales.bytes())},
             {[&](int, cudaStream_t stream) { Check(Enqueue(work, stream), "quantisation"); }});
}

}  // namespace

void TimeOpsOnRows(Bench& bench) {
  for (const int64_t rows : {4096, 1024, 16}) NormAndQuantise(bench, rows, 7168);
  SwiGluAndQuantise(bench, 32768, 2048);
  for (const int64_t rows : {4096, 1024}) {
    NormAndQuantise(bench, rows, 6144);  // GLM-5
    SwiGluAndQuantise(bench, rows, 18432);
    Quantise(bench, rows, 16384);
  }
}

}  // namespace sluice::bench
