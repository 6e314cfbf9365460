#include <fmt/format.h>

#include <optional>
#include <vector>

#include "gpu_operands.h"
#include "gpu_ops_bench.h"
#include "ops/cuda/index_scores.h"
#include "ops/cuda/top_k.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;

constexpr int64_t kK = 1024;
constexpr int64_t kTopK = 2048;
constexpr int64_t kHeads = 64;
constexpr int64_t kGlm5Heads = 32;

// Seconds, if the line is wanted.
std::optional<double> Scores(Bench& bench, int64_t heads, int64_t sequences, int64_t rows_each,
                             int64_t context, const Bar& bar, Bench::Sustained sustained) {
  const int64_t rows = sequences * rows_each;
  const bool decode = rows <= kFewRows;
  const std::string shape =
      decode ? fmt::format("{} sequences x {}, {}K keys", sequences, rows_each, context / kK)
             : fmt::format("{} rows, {}K keys", rows, context / kK);
  const std::string kernel = heads == kHeads ? "index scores" : "index scores, GLM-5";
  if (!bench.Wants(kernel, shape)) return std::nullopt;
  const ScoreOperands operands(heads, sequences, rows_each, context);
  return bench.Time(kernel, shape, {Unit::kFp8, operands.operations(), operands.bytes()},
                    {[&](int, cudaStream_t stream) {
                       Check(Enqueue(operands.Launch(), bench.counter(), bench.sms(), stream), "scores");
                     },
                     decode ? kPerGraph : 1},
                    bar, sustained);
}

std::optional<double> Selection(Bench& bench, int64_t rows, int64_t context, const Bar& bar) {
  const std::string shape = fmt::format("2048 of {}K, {} rows", context / kK, rows);
  if (!bench.Wants("top-k", shape)) return std::nullopt;
  const DeviceArray scores(rows * context * 4, RandomFloats());
  const DeviceArray positions(
      std::vector<int32_t>(static_cast<size_t>(rows), static_cast<int32_t>(context - 1)));
  const DeviceArray selection(rows * kTopK * 4);
  const DeviceArray bad(8);
  ops::cuda::TopK work;
  work.rows = rows;
  work.scores = scores.as<float>();
  work.scores_stride = context;
  work.positions = positions.as<int32_t>();
  work.top_k = kTopK;
  work.selection = selection.as<int32_t>();
  work.not_a_number = bad.as<int32_t>();
  return bench.Time("top-k", shape,
                    {Unit::kNone, 0.0, static_cast<double>(scores.bytes() + selection.bytes())},
                    {[&](int, cudaStream_t stream) { Check(Enqueue(work, stream), "a selection"); }}, bar);
}

void Prefill(Bench& bench) {
  struct Shape {
    int64_t rows, context;                          // of K
    double scores_us, selection_us, most_us = 0.0;  // anchors, and the bar of both together
  };
  constexpr Shape kShapes[] = {
      {1024, 8, 123.4, 0}, {1024, 48, 0, 0}, {1024, 64, 948.8, 263, 1210},   {1024, 128, 1919.8, 0},
      {4096, 8, 371.8, 0}, {4096, 48, 0, 0}, {4096, 64, 3668.5, 1014, 4700}, {4096, 128, 7621.5, 1903}};
  for (const Shape& shape : kShapes) {
    const int64_t context = shape.context * kK;
    const auto scores = Scores(bench, kHeads, 1, shape.rows, context, {shape.scores_us},
                               shape.context == 64 ? Bench::Sustained::kYes : Bench::Sustained::kNo);
    const auto selection = Selection(bench, shape.rows, context, {shape.selection_us});
    Scores(bench, kGlm5Heads, 1, shape.rows, context, {}, Bench::Sustained::kNo);
    if (scores && selection) {
      const double anchor = shape.selection_us > 0 ? shape.scores_us + shape.selection_us : 0.0;
      bench.Sum("index scores and top-k", fmt::format("{} rows, {}K keys", shape.rows, shape.context),
                *scores + *selection, {anchor, shape.most_us});
    }
  }
}

// One cache for all launches, as the anchors had.
void Decode(Bench& bench) {
  struct Shape {
    int64_t sequences, rows, context;  // of K
    double anchor_us;
  };
  constexpr Shape kShapes[] = {{1, 1, 64, 4.5},    {1, 1, 128, 5.8},   {1, 2, 128, 8.2},   {16, 1, 64, 39.5},
                               {64, 1, 64, 145.0}, {64, 2, 64, 154.0}, {128, 1, 32, 148.0}};
  for (const Shape& shape : kShapes) {
    Scores(bench, kHeads, shape.sequences, shape.rows, shape.context * kK, Bar::Times(shape.anchor_us, 1.05),
           Bench::Sustained::kNo);
  }
}

}  // namespace

void TimeIndexer(Bench& bench) {
  Prefill(bench);
  Decode(bench);
}

}  // namespace sluice::bench
