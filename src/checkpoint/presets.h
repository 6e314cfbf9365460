#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sluice::checkpoint {

// Names of the presets, for help and error texts.
std::vector<std::string> PresetNames();

// The config.json of a preset, in the keys of its family. Throws Error(kUsage) for an unknown name.
//   tiny        a DeepSeek-V3.2 of 4 layers at width 256: the whole model in seconds
//   small       6 layers at width 512
//   v3.2-61     the depth and layer kinds of DeepSeek-V3.2 at width 256, with its nextn layer
//   v3.2        DeepSeek-V3.2 at its published sizes
//   glm-5-78    the depth, layer kinds and widths per head of GLM-5 at width 256, with its nextn layer
//   glm-5.2-78  likewise GLM-5.2: 21 of its layers have an indexer, 57 share the selection of one before them
//   glm-5       GLM-5 at its published sizes
//   glm-5.2     GLM-5.2 at its published sizes
nlohmann::json PresetConfig(const std::string& name);

// Whether the preset has the sizes of a model that somebody published.
bool IsPublishedSize(const std::string& name);

// Applies "key=value" or "section.key=value" to a config. The value is JSON, or else a string. Throws
// Error(kUsage) for a key the config does not have and for what is not of this form.
void ApplyOverride(const std::string& override_text, nlohmann::json& config);

}  // namespace sluice::checkpoint
