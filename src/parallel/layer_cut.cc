#include "parallel/layer_cut.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>

#include "base/checked.h"
#include "base/error.h"

namespace sluice::parallel {
namespace {

std::vector<LayerRange> CutOfSizes(std::span<const int64_t> sizes) {
  std::vector<LayerRange> cut;
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    cut.push_back({begin, begin + size});
    begin += size;
  }
  return cut;
}

// "--pp-size 4", "--pp-size 4 with --pp-virtual-stages 2"
std::string FlagsOf(int stages, int virtual_stages) {
  return virtual_stages == 1
             ? fmt::format("--pp-size {}", stages)
             : fmt::format("--pp-size {} with --pp-virtual-stages {}", stages, virtual_stages);
}

std::vector<int64_t> DefaultSizes(int64_t layers, int stages, int virtual_stages) {
  SLUICE_CHECK(stages >= 1 && virtual_stages >= 1, "{} stages, {} virtual", stages, virtual_stages);
  const int64_t ranges = int64_t{stages} * virtual_stages;
  if (ranges > layers && virtual_stages == 1) {
    Fail(ErrorKind::kUsage,
         "--pp-size {} needs at least one layer for every stage, and the model has {}: use --pp-size {} or "
         "less",
         stages, layers, layers);
  }
  if (ranges > layers) {
    Fail(ErrorKind::kUsage,
         "{} needs at least one layer for each of {} layer ranges, and the model has {}: use {}",
         FlagsOf(stages, virtual_stages), ranges, layers,
         stages > layers ? fmt::format("--pp-size {} or less, without --pp-virtual-stages", layers)
                         : fmt::format("--pp-virtual-stages {}", layers / stages));
  }
  std::vector<int64_t> sizes(static_cast<size_t>(ranges), layers / ranges);
  std::for_each(sizes.end() - layers % ranges, sizes.end(), [](int64_t& size) { ++size; });
  return sizes;
}

}  // namespace

std::vector<LayerRange> DefaultLayerCut(int64_t layers, int stages, int virtual_stages) {
  return CutOfSizes(DefaultSizes(layers, stages, virtual_stages));
}

std::vector<LayerRange> ExplicitLayerCut(int64_t layers, int stages, std::span<const int64_t> sizes,
                                         int virtual_stages) {
  const std::vector<int64_t> usual = DefaultSizes(layers, stages, virtual_stages);
  const auto remedy = [&] { return fmt::format("the default cut is {}", fmt::join(usual, ",")); };
  if (sizes.size() != usual.size()) {
    Fail(ErrorKind::kUsage, "--pp-layer-partition {} has {} entries for {} {}; {}", fmt::join(sizes, ","),
         sizes.size(), usual.size(), virtual_stages == 1 ? "stages" : "virtual stages", remedy());
  }
  int64_t sum = 0;
  for (const int64_t size : sizes) {
    if (size < 1) {
      Fail(ErrorKind::kUsage,
           "--pp-layer-partition {} gives a stage {} layers, and every stage needs at least 1; {}",
           fmt::join(sizes, ","), size, remedy());
    }
    const auto next = CheckedAdd(sum, size);
    if (!next) {
      Fail(ErrorKind::kUsage, "--pp-layer-partition {} has more layers than can be counted; {}",
           fmt::join(sizes, ","), remedy());
    }
    sum = *next;
  }
  if (sum != layers) {
    Fail(ErrorKind::kUsage, "--pp-layer-partition {} has {} layers in all, and the model has {}; {}",
         fmt::join(sizes, ","), sum, layers, remedy());
  }
  return CutOfSizes(sizes);
}

}  // namespace sluice::parallel
