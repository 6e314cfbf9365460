#include "ops/cuda/gemm_shape.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/checked.h"

namespace sluice::ops::cuda {
namespace {

// Nanoseconds of a tile of each shape: for a block of k, and for what comes once. Fitted to what
// bench/gemm_shapes_bench.cc measures on an H200, 3 us for the launch taken off, most of all where the shape
// is the fastest or nearly so.
struct TileCost {
  double block = 0;
  double once = 0;
};
constexpr TileCost kFp8Costs[kTileShapeCount] = {{757, 1400}, {540, 1050}, {},         {435, 750}, {280, 560},
                                                 {370, 500},  {220, 100},  {115, 300}, {80, 350}};
constexpr TileCost kBf16Costs[kTileShapeCount] = {{},         {},         {580, 2040}, {505, 920}, {},
                                                  {290, 630}, {145, 400}, {},          {80, 440}};

// Clusters at work at once where `sms` of a device's SMs are used.
int Clusters(const TileShape& tile, int sms, int device_sms) {
  if (!tile.clustered()) return sms;
  // A cluster lies in one GPC, whose SMs come in pairs but not in fours: an H200's 132 hold 66 clusters of
  // two and 30 of four (cudaOccupancyMaxActiveClusters).
  const int most = tile.blocks() == 2 ? device_sms / 2 : device_sms * 30 / 132;
  // Who gets an SM that is left alone takes it from a cluster of its own.
  return std::max(0, most - (device_sms - sms));
}

// Of `clusters` tiles each. A last one that is cut (gemm_tiles.cuh) takes little more than half as long; the
// kernel cuts by the clusters that it was launched with, so where some of them are not counted on, none is
// counted on to be cut.
double Rounds(const TileShape& tile, int64_t tiles, int clusters, int launched) {
  constexpr double kCutRound = 0.56;
  const int64_t last = tiles % clusters;
  const bool cut = tile.beside && clusters == launched && 2 * last <= clusters;
  const double last_round = last == 0 ? 0.0 : cut ? kCutRound : 1.0;
  return static_cast<double>(tiles / clusters) + last_round;
}

}  // namespace

// Of groups only their number and the sum of their rows are known.
int ChooseShape(const Gemm& gemm, int sms, int device_sms) {
  const int64_t blocks = CeilDiv(gemm.inputs * SizeOf(gemm.type), 128);
  const int64_t groups = std::max<int64_t>(1, gemm.group_count);
  int best = 0;
  double best_time = std::numeric_limits<double>::infinity();
  for (int shape = 0; shape < kTileShapeCount; ++shape) {
    const TileShape& tile = kTileShapes[shape];
    const TileCost& cost = gemm.type == DType::kF8E4M3 ? kFp8Costs[shape] : kBf16Costs[shape];
    const int clusters = Clusters(tile, sms, device_sms);
    if (!IsFor(shape, gemm.type) || clusters == 0) continue;
    const int64_t tiles = groups * CeilDiv(CeilDiv(gemm.rows, groups), tile.all_rows()) * gemm.batches *
                          CeilDiv(gemm.outputs, tile.all_outputs());
    const double time = Rounds(tile, tiles, clusters, sms / tile.blocks()) *
                        (static_cast<double>(blocks) * cost.block + cost.once);
    if (time < best_time) {
      best = shape;
      best_time = time;
    }
  }
  return best;
}

}  // namespace sluice::ops::cuda
