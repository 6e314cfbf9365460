#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sluice::checkpoint {

// Names of the presets, for help and error texts.
std::vector<std::string> PresetNames();

// The config.json of a preset: DeepSeek-V3.2's keys. Throws Error(kUsage) for an unknown name.
//   tiny     4 layers at width 256: the whole model in seconds
//   small    6 layers at width 512
//   v3.2-61  the depth and layer kinds of DeepSeek-V3.2 at width 256, with its nextn layer
//   v3.2     DeepSeek-V3.2 at its published sizes
//   glm-5    GLM-5 at its published sizes, said in DeepSeek-V3.2's keys
nlohmann::json PresetConfig(const std::string& name);

// Whether the preset has the sizes of a model that somebody published.
bool IsPublishedSize(const std::string& name);

// Applies "key=value" or "section.key=value" to a config. The value is JSON, or else a string. Throws
// Error(kUsage) for a key the config does not have and for what is not of this form.
void ApplyOverride(const std::string& override_text, nlohmann::json& config);

}  // namespace sluice::checkpoint
