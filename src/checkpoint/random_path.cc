#include "checkpoint/random_path.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/nearest.h"
#include "checkpoint/presets.h"

namespace sluice::checkpoint {
namespace {

constexpr std::string_view kScheme = "random:";

// Short names for keys of config.json.
constexpr std::pair<const char*, const char*> kShortNames[] = {{"dense", "first_k_dense_replace"},
                                                               {"hidden", "hidden_size"},
                                                               {"heads", "num_attention_heads"},
                                                               {"experts", "n_routed_experts"},
                                                               {"experts_per_token", "num_experts_per_tok"},
                                                               {"index_heads", "index_n_heads"},
                                                               {"topk", "index_topk"},
                                                               {"vocab", "vocab_size"},
                                                               {"context", "max_position_embeddings"}};

// Said after a name that is not known: the one it is most like, if any.
std::string Meant(const std::string& word, const std::vector<std::string>& names) {
  const std::string meant = Nearest(word, names);
  return meant.empty() ? "" : fmt::format("; did you mean {}?", meant);
}

std::vector<std::string> ShortKeys() {
  std::vector<std::string> keys = {"layers", "seed", "dtype", "embedding_gain"};
  for (const auto& [key, config_key] : kShortNames) keys.emplace_back(key);
  return keys;
}

template <typename Number>
Number NumberOf(const std::string& path, const std::string& key, const std::string& text, const char* what) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || next != end) {
    Fail(ErrorKind::kModelFiles, "{}: {}={} is not {}", path, key, text, what);
  }
  return number;
}

void Apply(const std::string& path, const std::string& key, const std::string& value,
           const nlohmann::json& config, RandomModel& model) {
  if (key == "layers") {
    model.layers = NumberOf<int64_t>(path, key, value, "a number of layers");
    if (model.layers < 1) Fail(ErrorKind::kModelFiles, "{}: layers={} is below 1", path, value);
  } else if (key == "seed") {
    model.seed = NumberOf<uint64_t>(path, key, value, "a number from 0 to 2^64 - 1");
  } else if (key == "dtype") {
    if (value != "f32" && value != "bf16" && value != "fp8") {
      Fail(ErrorKind::kModelFiles, "{}: dtype={} is not known; use f32, bf16 or fp8", path, value);
    }
    model.format = ParseWeightFormat(value);
  } else if (key == "embedding_gain") {
    model.embedding_gain = NumberOf<double>(path, key, value, "a power of two from 1 to 65536");
  } else {
    std::string config_key = key;
    for (const auto& [name, meaning] : kShortNames) {
      if (key == name) config_key = meaning;
    }
    const auto at = config.find(config_key);
    if (at == config.end() || !at->is_number()) {
      const std::vector<std::string> known = ShortKeys();
      std::vector<std::string> all = known;
      for (const auto& [name, number] : config.items()) {
        if (number.is_number()) all.push_back(name);
      }
      Fail(ErrorKind::kModelFiles,
           "{}: there is no key \"{}\"{}; known are {} and what is a number in config.json", path, key,
           Meant(key, all), fmt::join(known, ", "));
    }
    NumberOf<double>(path, key, value, "a number");
    model.config_overrides.push_back(fmt::format("{}={}", config_key, value));
  }
}

}  // namespace

bool IsRandomPath(const std::filesystem::path& model_path) {
  return model_path.native().starts_with(kScheme);
}

RandomModel ParseRandomPath(const std::filesystem::path& model_path) {
  const std::string path = model_path.string();
  const size_t question = path.find('?');
  RandomModel model;
  model.preset = path.substr(0, question).substr(kScheme.size());
  const std::vector<std::string> presets = PresetNames();
  if (std::find(presets.begin(), presets.end(), model.preset) == presets.end()) {
    Fail(ErrorKind::kModelFiles, "{}: there is no preset \"{}\"{}; known are {}", path, model.preset,
         Meant(model.preset, presets), fmt::join(presets, ", "));
  }
  if (IsPublishedSize(model.preset)) model.format = WeightFormat::kFp8;
  if (question == path.npos) return model;

  const nlohmann::json config = PresetConfig(model.preset);
  std::set<std::string> seen;
  for (size_t begin = question + 1, end = 0; end != path.npos; begin = end + 1) {
    end = path.find('&', begin);
    const std::string pair = path.substr(begin, end == path.npos ? end : end - begin);
    const size_t equals = pair.find('=');
    if (equals == pair.npos || equals == 0 || equals + 1 == pair.size()) {
      Fail(ErrorKind::kModelFiles,
           "{}: \"{}\" is no key=value; random:PRESET?key=value&key=value is expected", path, pair);
    }
    const std::string key = pair.substr(0, equals);
    if (!seen.insert(key).second) Fail(ErrorKind::kModelFiles, "{}: {} is given twice", path, key);
    Apply(path, key, pair.substr(equals + 1), config, model);
  }
  return model;
}

}  // namespace sluice::checkpoint
