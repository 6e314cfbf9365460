#include "cli/sampling_flags.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "checkpoint/json_file.h"
#include "serve/request_limits.h"

namespace sluice::cli {
namespace {

constexpr const char* kFile = "generation_config.json";

// A default by its flag and by its name in a request, which is also that in the model's file.
struct Field {
  const char* flag;
  const char* name;
};
constexpr Field kTemperature{"default-temperature", "temperature"};
constexpr Field kTopP{"default-top-p", "top_p"};
constexpr Field kTopK{"default-top-k", "top_k"};

bool InRange(const Field& field, double value) {
  const serve::NumericField& limits = serve::LimitsOf(field.name);
  return value <= limits.max && (limits.above_min ? value > limits.min : value >= limits.min);
}

std::string RangeOf(const Field& field) {
  const serve::NumericField& limits = serve::LimitsOf(field.name);
  return fmt::format("{} {} to {}", limits.above_min ? "above" : "from", limits.min, limits.max);
}

// As messages name it.
std::string FileOf(const std::string& model_path) { return fmt::format("{}/{}", model_path, kFile); }

// The value of a field, and where it comes from.
struct Chosen {
  double value;
  std::string origin;
};

Chosen Choose(const Field& field, std::optional<double> flag, const std::map<std::string, std::string>& model,
              double built_in, const std::string& model_path) {
  if (flag) {
    if (!InRange(field, *flag)) {
      Fail(ErrorKind::kUsage, "--{} {} is out of range: use {}", field.flag, *flag, RangeOf(field));
    }
    return {*flag, fmt::format("--{}", field.flag)};
  }
  const auto said = model.find(field.flag);
  if (said == model.end()) return {built_in, "built-in"};
  const double value = std::stod(said->second);
  if (!InRange(field, value)) {
    Fail(ErrorKind::kModelFiles, "{}: {} {} is not {}: correct the file, or give --{}", FileOf(model_path),
         field.name, said->second, RangeOf(field), field.flag);
  }
  return {value, kFile};
}

}  // namespace

void AddSamplingFlags(CLI::App& app, SamplingFlags& flags) {
  const char* group = "Requests";
  app.add_option("--default-temperature", flags.temperature,
                 "Temperature of requests that have none; not given: as generation_config.json says, else 1")
      ->group(group);
  app.add_option("--default-top-p", flags.top_p,
                 "top_p of requests that have none; not given: as generation_config.json says, else 1")
      ->group(group);
  app.add_option("--default-top-k", flags.top_k,
                 "top_k of requests that have none; not given: as generation_config.json says, else all")
      ->group(group);
}

std::optional<std::string> GenerationConfigOf(const checkpoint::Checkpoint& checkpoint) {
  return checkpoint.TextFile(kFile);
}

std::map<std::string, std::string> SamplingOfModel(const std::string& model_path,
                                                   const std::optional<std::string>& generation_config) {
  std::map<std::string, std::string> values;
  if (!generation_config) return values;
  checkpoint::Defects defects;
  const auto config = checkpoint::ParseJsonObject(*generation_config, FileOf(model_path), defects);
  defects.ThrowFirst();
  for (const Field& field : {kTemperature, kTopP, kTopK}) {
    const auto at = config->find(field.name);
    if (at == config->end() || at->is_null()) continue;
    if (!at->is_number()) {
      Fail(ErrorKind::kModelFiles, "{}: {} is {}, which is not a number", FileOf(model_path), field.name,
           checkpoint::ShownJson(*at));
    }
    values[field.flag] = at->dump();
  }
  return values;
}

SaidDefaults DefaultsOf(const SamplingFlags& flags, const std::string& model_path,
                        const std::optional<std::string>& generation_config) {
  const auto model = SamplingOfModel(model_path, generation_config);
  const auto top_k_flag = flags.top_k ? std::optional(static_cast<double>(*flags.top_k)) : std::nullopt;
  const Chosen temperature = Choose(kTemperature, flags.temperature, model, 1.0, model_path);
  const Chosen top_p = Choose(kTopP, flags.top_p, model, 1.0, model_path);
  const Chosen top_k = Choose(kTopK, top_k_flag, model, 0.0, model_path);
  SaidDefaults said;
  said.values = {static_cast<float>(temperature.value), static_cast<float>(top_p.value),
                 std::max(0, static_cast<int32_t>(top_k.value))};  // -1 means all too
  said.line = fmt::format("requests that do not say it get temperature {} ({}), top_p {} ({}), top_k {} ({})",
                          temperature.value, temperature.origin, top_p.value, top_p.origin, top_k.value,
                          top_k.origin);
  return said;
}

}  // namespace sluice::cli
