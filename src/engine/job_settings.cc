#include "engine/job_settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

namespace sluice::engine {

std::string JobSettings::Description(uint64_t checkpoint_fingerprint) const {
  return fmt::format(
      "pp {} cp {} split {} layers [{}] numerics {} ops {} pages {} steps {} checkpoint {:016x}", grid.stages,
      grid.lanes, static_cast<int>(split_mode), fmt::join(layer_sizes, ","), static_cast<int>(numerics), ops,
      cache_pages, max_steps_in_flight, checkpoint_fingerprint);
}

std::string Print(const JobSettings& s) {
  return nlohmann::json{{"model_path", s.model_path.string()},
                        {"stages", s.grid.stages},
                        {"lanes", s.grid.lanes},
                        {"layer_sizes", s.layer_sizes},
                        {"split_mode", static_cast<int>(s.split_mode)},
                        {"numerics", static_cast<int>(s.numerics)},
                        {"ops", s.ops},
                        {"cache_pages", s.cache_pages},
                        {"max_steps_in_flight", s.max_steps_in_flight},
                        {"loader_threads", s.loader_threads},
                        {"compute_threads", s.compute_threads},
                        {"data_plane_address", s.data_plane_address},
                        {"speaks_for_node", s.speaks_for_node},
                        {"join_limit_ns", s.join_limit.count()},
                        {"wait_limit_ns", s.wait_limit.count()},
                        {"link_delay_ns", s.link_delay.count()}}
      .dump();
}

JobSettings ParseJobSettings(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    JobSettings s;
    s.model_path = json.at("model_path").get<std::string>();
    s.grid = {json.at("stages"), json.at("lanes")};
    s.layer_sizes = json.at("layer_sizes").get<std::vector<int64_t>>();
    s.split_mode = static_cast<parallel::SplitMode>(json.at("split_mode").get<int>());
    s.numerics = static_cast<NumericsChoice>(json.at("numerics").get<int>());
    s.ops = json.at("ops");
    s.cache_pages = json.at("cache_pages");
    s.max_steps_in_flight = json.at("max_steps_in_flight");
    s.loader_threads = json.at("loader_threads");
    s.compute_threads = json.at("compute_threads");
    s.data_plane_address = json.at("data_plane_address");
    s.speaks_for_node = json.at("speaks_for_node");
    s.join_limit = Duration(json.at("join_limit_ns").get<int64_t>());
    s.wait_limit = Duration(json.at("wait_limit_ns").get<int64_t>());
    s.link_delay = Duration(json.at("link_delay_ns").get<int64_t>());
    return s;
  } catch (const nlohmann::json::exception& error) {
    Fail(ErrorKind::kUsage, "the settings of a rank are not what sluice serve writes: {}", error.what());
  }
}

std::vector<parallel::LayerRange> LayerCutOf(const JobSettings& settings,
                                             const checkpoint::ModelConfig& config) {
  return settings.layer_sizes.empty()
             ? parallel::DefaultLayerCut(config.num_hidden_layers, settings.grid.stages)
             : parallel::ExplicitLayerCut(config.num_hidden_layers, settings.grid.stages,
                                          settings.layer_sizes);
}

void CheckFits(const JobSettings& settings, const checkpoint::ModelConfig& config) {
  if (settings.ops != "cpu" && settings.ops != "reference") {
    Fail(ErrorKind::kUsage, "--ops {} is not known: use cpu or reference", settings.ops);
  }
  if (settings.grid.lanes > config.vocab_size) {
    Fail(ErrorKind::kUsage, "a vocabulary of {} cannot be cut over {} lanes: use --attn-cp-size {} or less",
         config.vocab_size, settings.grid.lanes, config.vocab_size);
  }
}

ops::Numerics NumericsOf(NumericsChoice choice, bool checkpoint_is_fp8) {
  if (choice == NumericsChoice::kAuto) return checkpoint_is_fp8 ? ops::Numerics::kFp8 : ops::Numerics::kExact;
  return choice == NumericsChoice::kFp8 ? ops::Numerics::kFp8 : ops::Numerics::kExact;
}

}  // namespace sluice::engine
