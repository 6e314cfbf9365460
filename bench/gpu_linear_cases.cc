#include <fmt/format.h>

#include <array>
#include <string>

#include "gpu_operands.h"
#include "gpu_ops_bench.h"
#include "ops/cuda/gemm.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;

// Anchors of many experts and of few rows are of launches in a graph, so ours are too.
void TimeLinear(Bench& bench, const std::string& kernel, const Linear& linear, const Bar& bar = {},
                Bench::Sustained sustained = Bench::Sustained::kNo) {
  if (!bench.Wants(kernel, linear.Name())) return;
  const int64_t copies = linear.few() && linear.experts == 0 ? bench.Copies(linear.weight_bytes()) : 1;
  const LinearOperands operands(linear, copies);
  const auto enqueue = [&](int i, cudaStream_t stream) {
    Check(Enqueue(operands.Launch(i), bench.counter(), bench.sms(), stream), "a linear");
  };
  bench.Time(kernel, linear.Name(),
             {linear.type == DType::kBF16 ? Unit::kBf16 : Unit::kFp8, linear.operations(), linear.bytes()},
             {enqueue, linear.few() || linear.experts > 0 ? kPerGraph : 1}, bar, sustained);
}

// Bars: 0.95 of the anchor's speed, 0.9 below 1024 rows.
Bar DenseBar(int64_t rows, double anchor_us) {
  return Bar::Times(anchor_us, 1.0 / (rows >= 1024 ? 0.95 : 0.9));
}

void Dense(Bench& bench) {
  struct Shape {
    int64_t outputs, inputs;
    std::array<double, 4> anchor_us;  // of 4096, 1024, 128, 16 rows; 0: there is none
  };
  // q_a with kv_a; q_b; o; shared experts' gate with up, down; dense gate with up; index queries; kv_b.
  constexpr Shape kV32[] = {{2112, 7168, {93, 37, 10.1, 10.6}},
                            {24576, 1536, {231, 68, 14.4, 14.6}},
                            {7168, 16384, {646, 211, 42.0, 34.8}},
                            {4096, 7168, {172, 47.7, 12.1, 12.0}},
                            {7168, 2048, {99, 34.9, 8.5, 7.0}},
                            {36864, 7168, {1457}},
                            {8192, 1536, {99}},
                            {32768, 512, {149}}};
  constexpr Shape kGlm5[] = {{2624, 6144, {}}, {16384, 2048, {}}, {6144, 16384, {}}, {4096, 6144, {}},
                             {6144, 2048, {}}, {24576, 6144, {}}, {4096, 2048, {}},  {28672, 512, {}}};
  constexpr std::array<int64_t, 4> kRows = {4096, 1024, 128, 16};
  for (const Shape& shape : kV32) {
    for (size_t i = 0; i < kRows.size(); ++i) {
      TimeLinear(bench, "GEMM fp8", {.rows = kRows[i], .outputs = shape.outputs, .inputs = shape.inputs},
                 DenseBar(kRows[i], shape.anchor_us[i]),
                 kRows[i] == 4096 ? Bench::Sustained::kYes : Bench::Sustained::kNo);
    }
  }
  for (const Shape& shape : kGlm5) {
    for (const int64_t rows : {4096, 1024}) {
      TimeLinear(bench, "GEMM fp8, GLM-5", {.rows = rows, .outputs = shape.outputs, .inputs = shape.inputs});
    }
  }
}

void Grouped(Bench& bench) {
  struct Experts {
    int64_t count, rows;
    double up_us, down_us;  // the anchors
  };
  // Of a prompt's chunk, and of a decode step.
  constexpr Experts kExperts[] = {{32, 1024, 1619, 859}, {32, 256, 453, 279}, {256, 128, 2617, 1323},
                                  {32, 64, 246, 133},    {32, 16, 246, 132},  {32, 4, 245, 135}};
  for (const Experts& experts : kExperts) {
    const int64_t rows = experts.count * experts.rows;
    const auto sustained = experts.rows >= 128 ? Bench::Sustained::kYes : Bench::Sustained::kNo;
    TimeLinear(bench, "GEMM fp8, grouped",
               {.rows = rows, .outputs = 4096, .inputs = 7168, .experts = experts.count},
               Bar::Times(experts.up_us, 1.0 / 0.95), sustained);
    TimeLinear(bench, "GEMM fp8, grouped",
               {.rows = rows, .outputs = 7168, .inputs = 2048, .experts = experts.count},
               Bar::Times(experts.down_us, 1.0 / 0.95), sustained);
  }
  for (const int64_t rows : {1024, 256}) {
    TimeLinear(bench, "GEMM fp8, grouped, GLM-5",
               {.rows = 32 * rows, .outputs = 4096, .inputs = 6144, .experts = 32});
    TimeLinear(bench, "GEMM fp8, grouped, GLM-5",
               {.rows = 32 * rows, .outputs = 6144, .inputs = 2048, .experts = 32});
  }
}

// W_uk^T and W_uv of every head, the router, and the head of the model.
void Bf16(Bench& bench) {
  const auto time = [&](const std::string& part, int64_t rows, int64_t heads, int64_t outputs, int64_t inputs,
                        int64_t x_step, int64_t y_step, DType y_type) {
    TimeLinear(bench, "GEMM bf16, " + part,
               {.type = DType::kBF16,
                .rows = rows,
                .outputs = outputs,
                .inputs = inputs,
                .heads = heads,
                .x_step = x_step,
                .y_step = y_step,
                .y_type = y_type});
  };
  for (const int64_t rows : {4096, 1024}) {
    time("absorbed query", rows, 128, 512, 128, 192, 576, DType::kBF16);
    time("value up", rows, 128, 128, 512, 512, 128, DType::kBF16);
    time("router", rows, 1, 256, 7168, 0, 0, DType::kF32);
    time("absorbed query, GLM-5", rows, 64, 512, 192, 256, 576, DType::kBF16);
    time("value up, GLM-5", rows, 64, 256, 512, 512, 256, DType::kBF16);
    time("router, GLM-5", rows, 1, 256, 6144, 0, 0, DType::kF32);
  }
  for (const int64_t rows : {256, 16}) time("head", rows, 1, 129280, 7168, 0, 0, DType::kF32);
}

}  // namespace

void TimeLinears(Bench& bench) {
  Dense(bench);
  Grouped(bench);
  Bf16(bench);
}

}  // namespace sluice::bench
