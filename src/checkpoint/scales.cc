#include "checkpoint/scales.h"

#include <fmt/format.h>

#include <cmath>

namespace sluice::checkpoint {

std::optional<std::string> DefectOfScales(std::span<const float> scales, const std::string& name,
                                          const std::filesystem::path& file) {
  for (size_t i = 0; i < scales.size(); ++i) {
    if (std::isfinite(scales[i]) && scales[i] > 0.0F) continue;
    return fmt::format("{}: scale {} of tensor {} is {}; a finite number above 0 is expected.", file.string(),
                       i, name, scales[i]);
  }
  return std::nullopt;
}

}  // namespace sluice::checkpoint
