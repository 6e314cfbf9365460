#include "ops/cuda/gemm.h"

#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/tensor_map.h"

namespace sluice::ops::cuda {
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
  int device = 0;
  int device_sms = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  if (const cudaError_t error = cudaDeviceGetAttribute(&device_sms, cudaDevAttrMultiProcessorCount, device);
      error != cudaSuccess) {
    return error;
  }
  return EnqueueWithShape(gemm, ChooseShape(gemm, sms, device_sms), tiles, sms, stream);
}

}  // namespace sluice::ops::cuda
