#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>

namespace sluice::checkpoint {

// The sentence for the first value of a weight_scale_inv that is not finite and positive; nullopt if all are.
std::optional<std::string> DefectOfScales(std::span<const float> scales, const std::string& name,
                                          const std::filesystem::path& file);

}  // namespace sluice::checkpoint
