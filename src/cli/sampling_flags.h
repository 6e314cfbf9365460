#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "serve/sampling_defaults.h"

namespace sluice::cli {

// What requests get that do not say it. Not given: what the model's generation_config.json says, and
// without that the built-in value.
struct SamplingFlags {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
};

void AddSamplingFlags(CLI::App& app, SamplingFlags& flags);

// The text of the model's generation_config.json; nullopt when there is no such file.
std::optional<std::string> GenerationConfigOf(const checkpoint::Checkpoint& checkpoint);

// temperature, top_p and top_k of that text, by the flag that goes before it. Throws Error(kModelFiles) for a
// text that is no JSON object, and for a value of these that is no number.
std::map<std::string, std::string> SamplingOfModel(const std::string& model_path,
                                                   const std::optional<std::string>& generation_config);

// The defaults, and the line for the log that says them with their origin. Throws Error(kUsage) for a flag
// out of range and Error(kModelFiles) for such a value of the model.
struct SaidDefaults {
  serve::SamplingDefaults values;
  std::string line;
};
SaidDefaults DefaultsOf(const SamplingFlags& flags, const std::string& model_path,
                        const std::optional<std::string>& generation_config);

}  // namespace sluice::cli
