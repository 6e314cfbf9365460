#include "checkpoint/config_sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "checkpoint/json_file.h"

namespace sluice::checkpoint {
namespace {

constexpr double kMaxTheta = 1e12;

// "default" or "yarn"; a section without either key is plain.
std::string RopeType(ConfigReader& section) {
  if (section.Has("rope_type") && section.Has("type") && section.At("rope_type") != section.At("type")) {
    section.Defect("type", ShownJson(section.At("type")),
                   fmt::format("{} as \"rope_type\" says", ShownJson(section.At("rope_type"))));
  }
  for (const char* key : {"rope_type", "type"}) {
    if (!section.Has(key)) continue;
    const auto& type = section.At(key);
    if (type == "yarn" || type == "default") return type.get<std::string>();
    section.Defect(key, ShownJson(type), "\"yarn\" or \"default\"");
    return "default";
  }
  return "default";
}

void ReadYarn(ConfigReader& section, RopeConfig& rope) {
  rope.yarn = true;
  rope.factor = section.Number("factor", 1.0, 1e6);
  rope.original_max_position_embeddings = section.Integer("original_max_position_embeddings", 1, 16'777'216);
  rope.beta_fast = section.NumberOr("beta_fast", rope.beta_fast, 1e-3, 1e6);
  rope.beta_slow = section.NumberOr("beta_slow", rope.beta_slow, 1e-3, 1e6);
  rope.mscale = section.NumberOr("mscale", rope.mscale, 0.0, 1e3);
  rope.mscale_all_dim = section.NumberOr("mscale_all_dim", rope.mscale_all_dim, 0.0, 1e3);
  // Otherwise Transformers multiplies cosines and sines by a factor, which no published model of the family
  // has.
  if (rope.mscale != rope.mscale_all_dim || rope.mscale == 0.0) {
    section.Defect("mscale", fmt::to_string(rope.mscale),
                   fmt::format("the value of mscale_all_dim, {}, and not 0", rope.mscale_all_dim));
  }
  section.OnlyIfPresent("truncate", true);
  if (section.Has("attention_factor")) {
    section.Defect("attention_factor", ShownJson(section.At("attention_factor")),
                   "null: the factor follows from mscale and mscale_all_dim");
  }
  if (rope.beta_fast <= rope.beta_slow) {
    section.Defect("beta_fast", fmt::to_string(rope.beta_fast),
                   fmt::format("more than beta_slow, {}", rope.beta_slow));
  }
}

// A word or a letter per layer that says whether it shares; nullopt after a defect.
std::optional<std::vector<bool>> SharedAsListed(ConfigReader& reader, const char* key, int64_t layers,
                                                const std::vector<nlohmann::json>& list, const char* full,
                                                const char* shared) {
  if (std::ssize(list) != layers) {
    reader.Defect(key, ShownJson(reader.At(key)),
                  fmt::format("\"{}\" or \"{}\" for each of {} layers", full, shared, layers));
    return std::nullopt;
  }
  std::vector<bool> shares;
  for (const nlohmann::json& type : list) {
    if (type != full && (type != shared || shares.empty())) {
      reader.Defect(key, fmt::format("{} for layer {}", ShownJson(type), shares.size()),
                    shares.empty()
                        ? fmt::format("\"{}\", since there is no layer before it to share with", full)
                        : fmt::format("\"{}\" or \"{}\"", full, shared));
      return std::nullopt;
    }
    shares.push_back(type == shared);
  }
  return shares;
}

}  // namespace

std::vector<bool> ReadSharedIndexers(ConfigReader& reader, int64_t layers) {
  std::vector<std::pair<const char*, std::vector<bool>>> said;
  const auto say = [&](const char* key, std::optional<std::vector<bool>> shares) {
    if (shares.has_value()) said.emplace_back(key, *std::move(shares));
  };
  if (const char* key = "indexer_types"; reader.Has(key)) {
    const auto& list = reader.At(key);
    say(key, SharedAsListed(
                 reader, key, layers,
                 list.is_array() ? list.get<std::vector<nlohmann::json>>() : std::vector<nlohmann::json>(),
                 "full", "shared"));
  }
  if (const char* key = "index_topk_pattern"; reader.Has(key)) {
    std::vector<nlohmann::json> letters;
    for (const char letter : reader.String(key)) letters.emplace_back(std::string(1, letter));
    say(key, SharedAsListed(reader, key, layers, letters, "F", "S"));
  }
  if (const char* key = "index_topk_freq"; reader.Has(key)) {
    const int64_t every = reader.Integer(key, 1, 256);
    const int64_t offset = reader.IntegerOr("index_skip_topk_offset", 2, 0, 256);
    std::vector<bool> shares;
    for (int64_t i = 0; i < layers; ++i) shares.push_back(std::max<int64_t>(i - offset + 1, 0) % every != 0);
    // Offset 0 would have layer 0 share.
    if (!shares.empty() && shares.front()) {
      reader.Defect("index_skip_topk_offset", "0",
                    "at least 1, since layer 0 has none before it to share with");
    } else {
      say(key, std::move(shares));
    }
  }
  if (said.empty()) return {};
  const auto& [first, shares] = said.front();
  for (const auto& [key, others] : said) {
    const auto differ = std::mismatch(shares.begin(), shares.end(), others.begin()).first - shares.begin();
    if (differ == layers) continue;
    reader.Defect(key, ShownJson(reader.At(key)),
                  fmt::format("what \"{}\" says, that layer {} is {}", first, differ,
                              shares[differ] ? "shared" : "full"));
  }
  return std::find(shares.begin(), shares.end(), true) == shares.end() ? std::vector<bool>() : shares;
}

RopeConfig ReadRope(const nlohmann::json& object, ConfigReader& reader) {
  RopeConfig rope;
  const nlohmann::json none = nlohmann::json::object();
  const nlohmann::json* section_json = &none;
  const char* section_name = "rope_parameters";
  for (const char* key : {"rope_scaling", "rope_parameters"}) {  // the latter is preferred
    if (!reader.Has(key)) continue;
    if (!reader.At(key).is_object()) {
      reader.Defect(key, ShownJson(reader.At(key)), "an object");
      return rope;
    }
    section_json = &object.at(key);
    section_name = key;
  }
  if (reader.Has("rope_scaling") && reader.Has("rope_parameters")) {
    for (const auto& [key, value] : object.at("rope_scaling").items()) {
      if (!section_json->contains(key) || section_json->at(key) == value) continue;
      reader.Defect("rope_scaling", fmt::format("{} for {}", ShownJson(value), Shown(key)),
                    fmt::format("{} as \"rope_parameters\" says", ShownJson(section_json->at(key))));
    }
  }
  ConfigReader section(*section_json, reader.where(), fmt::format("{}.", section_name), reader.defects());

  if (section.Has("rope_theta")) {
    rope.theta = section.Number("rope_theta", 1.0, kMaxTheta);
    if (reader.Has("rope_theta") && reader.At("rope_theta") != section.At("rope_theta")) {
      reader.Defect("rope_theta", ShownJson(reader.At("rope_theta")),
                    fmt::format("{} as \"{}\" says", ShownJson(section.At("rope_theta")), section_name));
    }
  } else {
    rope.theta = reader.Number("rope_theta", 1.0, kMaxTheta);
  }
  if (RopeType(section) == "yarn") ReadYarn(section, rope);
  return rope;
}

void CheckQuantization(const nlohmann::json& section_json, ConfigReader& reader) {
  if (!section_json.is_object()) {
    reader.Defect("quantization_config", ShownJson(section_json), "an object");
    return;
  }
  ConfigReader section(section_json, reader.where(), "quantization_config.", reader.defects());
  if (!section.Has("quant_method")) section.Defect("quant_method", "missing", "\"fp8\"");
  section.OnlyIfPresent("quant_method", "fp8");
  section.OnlyIfPresent("fmt", "e4m3");
  section.OnlyIfPresent("activation_scheme", "dynamic");
  section.OnlyIfPresent("weight_block_size", {128, 128});
  section.OnlyIfPresent("scale_fmt", "ue8m0");
}

}  // namespace sluice::checkpoint
