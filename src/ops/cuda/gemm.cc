#include "ops/cuda/gemm.h"

#include <algorithm>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/tensor_map.h"

namespace sluice::ops::cuda {
namespace {

// Nanoseconds of a tile of each shape: for a block of k, and for what comes once. Fitted to what
// bench/gemm_shapes_bench.cc measures on an H200, 3 us for the launch taken off, most of all where the shape
// is the fastest or nearly so.
struct TileCost {
  double block = 0;
  double once = 0;
};
constexpr TileCost kFp8Costs[kTileShapeCount] = {{665, 1720}, {},         {435, 750}, {280, 560},
                                                 {370, 500},  {220, 100}, {115, 300}, {80, 350}};
constexpr TileCost kBf16Costs[kTileShapeCount] = {{},         {580, 2040}, {505, 920}, {},
                                                  {290, 630}, {145, 400},  {},         {80, 440}};

// The shape whose last cluster is expected to be done first. Of groups only their number and the sum of their
// rows are known.
int ChooseShape(const Gemm& gemm, int64_t blocks, int sms) {
  int best = 0;
  double best_time = std::numeric_limits<double>::infinity();
  const int64_t groups = std::max<int64_t>(1, gemm.group_count);
  for (int shape = 0; shape < kTileShapeCount; ++shape) {
    const TileShape& tile = kTileShapes[shape];
    const TileCost& cost = gemm.type == DType::kF8E4M3 ? kFp8Costs[shape] : kBf16Costs[shape];
    if (!IsFor(shape, gemm.type) || sms < tile.blocks()) continue;
    const int64_t tiles = groups * CeilDiv(CeilDiv(gemm.rows, groups), tile.all_rows()) * gemm.batches *
                          CeilDiv(gemm.outputs, tile.all_outputs());
    const int64_t turns = CeilDiv(tiles, sms / tile.blocks());
    const double time = static_cast<double>(turns) * (static_cast<double>(blocks) * cost.block + cost.once);
    if (time < best_time) {
      best = shape;
      best_time = time;
    }
  }
  return best;
}

}  // namespace

cudaError_t EnqueueWithShape(const Gemm& gemm, int shape, TileCounter tiles, int sms, cudaStream_t stream) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  const bool fp8 = gemm.type == DType::kF8E4M3;
  SLUICE_CHECK(fp8 || gemm.type == DType::kBF16, "x and w are {}", NameOf(gemm.type));
  SLUICE_CHECK(gemm.y_type == DType::kBF16 || gemm.y_type == DType::kF32, "y is {}", NameOf(gemm.y_type));
  SLUICE_CHECK(gemm.inputs > 0 && gemm.outputs > 0 && gemm.rows >= 0 && gemm.rows <= kMost &&
                   gemm.weights * gemm.outputs <= kMost,
               "[{}, {}] x {} weights of [{}, {}]", gemm.rows, gemm.inputs, gemm.weights, gemm.outputs,
               gemm.inputs);
  SLUICE_CHECK(gemm.inputs * SizeOf(gemm.type) % 16 == 0 && gemm.x_stride * SizeOf(gemm.type) % 16 == 0,
               "rows of {} and {} elements are not whole units of 16 bytes", gemm.inputs, gemm.x_stride);
  SLUICE_CHECK(!fp8 || (gemm.weights * CeilDiv(gemm.outputs, 128) <= kMost / CeilDiv(gemm.inputs, 128) &&
                        gemm.x_scales_stride >= CeilDiv(gemm.inputs, 128) &&
                        gemm.rows <= kMost / gemm.x_scales_stride),
               "scales of {} rows of {}, {} apart", gemm.rows, gemm.inputs, gemm.x_scales_stride);
  SLUICE_CHECK(!fp8 || (gemm.x_scales != nullptr && gemm.w_scales != nullptr), "FP8 without scales");
  SLUICE_CHECK(gemm.group_count >= 0 && gemm.group_count <= kMostGroups, "{} groups", gemm.group_count);
  SLUICE_CHECK(gemm.batches == 1 || (gemm.groups == nullptr && gemm.batches <= gemm.weights && !fp8 &&
                                     gemm.inputs * SizeOf(gemm.type) % 128 == 0),
               "{} batches of {} inputs", gemm.batches, gemm.inputs);
  SLUICE_CHECK(shape >= 0 && shape < kTileShapeCount && IsFor(shape, gemm.type), "tile shape {} for {}",
               shape, NameOf(gemm.type));
  const TileShape& tile = kTileShapes[shape];
  SLUICE_CHECK(sms >= tile.blocks(), "{} SMs", sms);
  if (gemm.rows == 0) return cudaSuccess;

  const int64_t block_inputs = 128 / SizeOf(gemm.type);
  LaunchedGemm launched;
  launched.fp8 = fp8;
  launched.y_is_bf16 = gemm.y_type == DType::kBF16;
  launched.rows = static_cast<int32_t>(gemm.rows);
  launched.outputs = static_cast<int32_t>(gemm.outputs);
  launched.block_inputs = static_cast<int32_t>(block_inputs);
  launched.blocks = static_cast<int32_t>(CeilDiv(gemm.inputs, block_inputs));
  launched.batches = static_cast<int32_t>(gemm.batches);
  launched.x_step = static_cast<int32_t>(gemm.x_step);
  launched.y_step = gemm.y_step;
  launched.x_scales = gemm.x_scales;
  launched.x_scales_stride = static_cast<int32_t>(gemm.x_scales_stride);
  launched.w_scales = gemm.w_scales;
  launched.y = gemm.y;
  launched.y_stride = gemm.y_stride;
  launched.groups = gemm.groups;
  launched.group_count = gemm.group_count;
  launched.tiles = tiles + 1;
  launched.fixed_tiles = gemm.fixed_tiles;
  // Where there are fewer rows than a tile has, no more are brought.
  const bool few = gemm.groups == nullptr && gemm.rows < tile.rows();
  const int64_t boxes = tile.rows() / tile.x_box();
  launched.x_box = few ? static_cast<int32_t>(CeilDiv(gemm.rows, 8 * boxes) * 8) : tile.x_box();
  const CUtensorMap x_map =
      MapOf(gemm.x, gemm.type, gemm.rows, (gemm.batches - 1) * gemm.x_step + gemm.inputs, gemm.x_stride,
            launched.x_box);
  const CUtensorMap w_map =
      MapOf(gemm.w, gemm.type, gemm.weights * gemm.outputs, gemm.inputs, gemm.inputs, tile.w_box());
  return Launch(launched, shape, x_map, w_map, sms, stream);
}

cudaError_t Enqueue(const Gemm& gemm, TileCounter tiles, int sms, cudaStream_t stream) {
  const int64_t blocks = CeilDiv(gemm.inputs * SizeOf(gemm.type), 128);
  return EnqueueWithShape(gemm, ChooseShape(gemm, blocks, sms), tiles, sms, stream);
}

}  // namespace sluice::ops::cuda
