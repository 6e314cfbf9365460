#include "engine/job_settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/checked.h"

namespace sluice::engine {

namespace {

int NumberOf(const std::optional<ops::CacheFormat>& format) {
  return format.has_value() ? static_cast<int>(*format) : -1;
}

}  // namespace

std::string JobSettings::Description(uint64_t checkpoint_fingerprint) const {
  return fmt::format(
      "pp {} tp {} attn_tp {} virtual {} split {} layers [{}] owners {} dense_tp {} mtp {} numerics {} cache "
      "{} ops "
      "{} plane {} hop {} pages {} "
      "steps {} faults {} checkpoint {:016x}",
      grid.stages, grid.lanes, grid.attn_tp, grid.virtual_stages, static_cast<int>(split_mode),
      fmt::join(layer_sizes, ","), expert_owners, dense_tp ? 1 : 0, load_nextn ? 1 : 0,
      static_cast<int>(numerics), NumberOf(cache_format), ops,
      data_plane == DataPlane::kNccl ? "nccl" : "host", static_cast<int>(hop_receive), cache_pages,
      max_steps_in_flight, comm::Print(fault_plan), checkpoint_fingerprint);
}

std::string Print(const JobSettings& s) {
  return nlohmann::json{
      {"model_path", s.model_path.string()},
      {"stages", s.grid.stages},
      {"lanes", s.grid.lanes},
      {"attn_tp", s.grid.attn_tp},
      {"virtual_stages", s.grid.virtual_stages},
      {"expert_owners", s.expert_owners},
      {"dense_tp", s.dense_tp},
      {"load_nextn", s.load_nextn},
      {"layer_sizes", s.layer_sizes},
      {"split_mode", static_cast<int>(s.split_mode)},
      {"numerics", static_cast<int>(s.numerics)},
      {"ops", s.ops},
      {"gpu", s.gpu},
      {"gpu_step", s.gpu_step},
      {"data_plane", static_cast<int>(s.data_plane)},
      {"sm_reserve", s.sm_reserve.value_or(-1)},
      {"hop_receive", static_cast<int>(s.hop_receive)},
      {"cache_format", NumberOf(s.cache_format)},
      {"cache_pages", s.cache_pages},
      {"max_steps_in_flight", s.max_steps_in_flight},
      {"largest_step", {s.largest_step.rows, s.largest_step.sequences, s.largest_step.positions}},
      {"graph_rows", s.graph_rows},
      {"trace_events", s.trace_events},
      {"events_on_failure", s.events_on_failure},
      {"loader_threads", s.loader_threads},
      {"compute_threads", s.compute_threads},
      {"data_plane_address", s.data_plane_address},
      {"log_level", s.log_level},
      {"log_format", s.log_format},
      {"speaks_for_node", s.speaks_for_node},
      {"join_limit_ns", s.join_limit.count()},
      {"wait_limit_ns", s.wait_limit.count()},
      {"stall_limit_ns", s.stall_limit.count()},
      {"link_delay_ns", s.link_delay.count()},
      {"fault_plan", comm::Print(s.fault_plan)}}
      .dump();
}

JobSettings ParseJobSettings(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    JobSettings s;
    s.model_path = json.at("model_path").get<std::string>();
    s.grid = {json.at("stages"), json.at("lanes"), json.at("attn_tp"), json.at("virtual_stages")};
    s.expert_owners = json.at("expert_owners");
    s.dense_tp = json.at("dense_tp");
    s.load_nextn = json.at("load_nextn");
    s.layer_sizes = json.at("layer_sizes").get<std::vector<int64_t>>();
    s.split_mode = static_cast<parallel::SplitMode>(json.at("split_mode").get<int>());
    s.numerics = static_cast<NumericsChoice>(json.at("numerics").get<int>());
    s.ops = json.at("ops");
    s.gpu = json.at("gpu");
    s.gpu_step = json.at("gpu_step");
    s.data_plane = static_cast<DataPlane>(json.at("data_plane").get<int>());
    if (const int reserve = json.at("sm_reserve"); reserve >= 0) s.sm_reserve = reserve;
    s.hop_receive = static_cast<HopReceive>(json.at("hop_receive").get<int>());
    if (const int format = json.at("cache_format"); format >= 0) {
      s.cache_format = static_cast<ops::CacheFormat>(format);
    }
    s.cache_pages = json.at("cache_pages");
    s.max_steps_in_flight = json.at("max_steps_in_flight");
    const auto largest = json.at("largest_step").get<std::array<int64_t, 3>>();
    s.largest_step = {largest[0], largest[1], largest[2]};
    s.graph_rows = json.at("graph_rows").get<std::vector<int64_t>>();
    s.trace_events = json.at("trace_events");
    s.events_on_failure = json.at("events_on_failure");
    s.loader_threads = json.at("loader_threads");
    s.compute_threads = json.at("compute_threads");
    s.data_plane_address = json.at("data_plane_address");
    s.log_level = json.at("log_level");
    s.log_format = json.at("log_format");
    s.speaks_for_node = json.at("speaks_for_node");
    s.join_limit = Duration(json.at("join_limit_ns").get<int64_t>());
    s.wait_limit = Duration(json.at("wait_limit_ns").get<int64_t>());
    s.stall_limit = Duration(json.at("stall_limit_ns").get<int64_t>());
    s.link_delay = Duration(json.at("link_delay_ns").get<int64_t>());
    s.fault_plan = comm::ParseFaultPlan(json.at("fault_plan").get<std::string>(), "the fault plan of the job",
                                        s.grid.world());
    return s;
  } catch (const nlohmann::json::exception& error) {
    Fail(ErrorKind::kUsage, "the settings of a rank are not what sluice serve writes: {}", error.what());
  }
}

std::vector<parallel::LayerRange> LayerCutOf(const JobSettings& settings,
                                             const checkpoint::ModelConfig& config) {
  return settings.layer_sizes.empty()
             ? parallel::DefaultLayerCut(config.num_hidden_layers, settings.grid.stages,
                                         settings.grid.virtual_stages)
             : parallel::ExplicitLayerCut(config.num_hidden_layers, settings.grid.stages,
                                          settings.layer_sizes, settings.grid.virtual_stages);
}

namespace {

// Heads are cut evenly, and an FP8 matrix only where a scale block ends: in the rows of q_b_proj and in the
// columns of o_proj.
bool HeadsCanBeCut(const checkpoint::ModelConfig& config, int64_t shards, bool fp8) {
  if (config.num_attention_heads % shards != 0) return false;
  const int64_t heads = config.num_attention_heads / shards;
  const int64_t query = config.qk_nope_head_dim + config.qk_rope_head_dim;
  return !fp8 || shards == 1 ||
         (heads * query % ops::kQuantBlock == 0 && heads * config.v_head_dim % ops::kQuantBlock == 0);
}

void CheckHeads(const JobSettings& settings, const checkpoint::ModelConfig& config, bool fp8) {
  const parallel::Grid& grid = settings.grid;
  if (HeadsCanBeCut(config, grid.attn_tp, fp8)) return;
  // The nearest that works: fewer lanes to a head group, so more context-parallel groups.
  int shards = grid.attn_tp - 1;
  while (grid.lanes % shards != 0 || !HeadsCanBeCut(config, shards, fp8)) --shards;
  Fail(ErrorKind::kUsage,
       "--tp {} with --attn-cp-size {} cuts {} attention heads over {} ranks{}: use --attn-cp-size {}",
       grid.lanes, grid.lanes / grid.attn_tp, config.num_attention_heads, grid.attn_tp,
       config.num_attention_heads % grid.attn_tp != 0 ? ", which does not come out even"
                                                      : ", where FP8 scale blocks of 128 are not cut",
       grid.lanes / shards);
}

}  // namespace

namespace {

// What the GPU's kernels are made for, which all known models of the family are.
void CheckGpuShapes(const checkpoint::ModelConfig& config) {
  struct Limit {
    const char* name;
    int64_t value;
    bool holds;
    const char* wanted;
  };
  const Limit limits[] = {
      {"kv_lora_rank", config.kv_lora_rank, config.kv_lora_rank == 512, "512"},
      {"qk_rope_head_dim", config.qk_rope_head_dim, config.qk_rope_head_dim == 64, "64"},
      {"qk_nope_head_dim", config.qk_nope_head_dim, config.qk_nope_head_dim % 64 == 0, "a multiple of 64"},
      {"v_head_dim", config.v_head_dim, config.v_head_dim % 8 == 0, "a multiple of 8"},
      {"num_attention_heads", config.num_attention_heads, config.num_attention_heads <= 128, "at most 128"},
      {"index_head_dim", config.index_head_dim, config.index_head_dim == 128, "128"},
      {"index_n_heads", config.index_n_heads, config.index_n_heads == 64 || config.index_n_heads == 32,
       "64 or 32"},
      {"index_topk", config.index_topk, config.index_topk <= 2048, "at most 2048"},
      {"hidden_size", config.hidden_size, config.hidden_size % 16 == 0 && config.hidden_size <= 8192,
       "a multiple of 16, at most 8192"},
      {"q_lora_rank", config.q_lora_rank, config.q_lora_rank % 16 == 0 && config.q_lora_rank <= 8192,
       "a multiple of 16, at most 8192"},
      {"n_routed_experts", config.n_routed_experts, config.n_routed_experts <= 512, "at most 512"},
  };
  for (const Limit& limit : limits) {
    if (limit.holds) continue;
    Fail(ErrorKind::kUsage, "{} is {}, and the GPU's kernels want {}: use --ops cpu", limit.name, limit.value,
         limit.wanted);
  }
}

}  // namespace

void CheckFits(const JobSettings& settings, const checkpoint::ModelConfig& config, bool checkpoint_is_fp8) {
  const parallel::Grid& grid = settings.grid;
  if (settings.ops != "cpu" && settings.ops != "cuda" && settings.ops != "reference") {
    Fail(ErrorKind::kUsage, "--ops {} is not known: use cpu, cuda or reference", settings.ops);
  }
  if (grid.lanes > config.vocab_size) {
    Fail(ErrorKind::kUsage, "a vocabulary of {} cannot be cut over {} lanes: use --tp {} or less",
         config.vocab_size, grid.lanes, config.vocab_size);
  }
  const bool exact = NumericsOf(settings.numerics, checkpoint_is_fp8) == ops::Numerics::kExact;
  const ops::CacheFormat format = CacheFormatOf(settings, checkpoint_is_fp8);
  if (exact && format != ops::CacheFormat::kF32) {
    Fail(ErrorKind::kUsage,
         "--kv-cache-dtype {} does not go with numerics exact, which rounds nothing: use --kv-cache-dtype "
         "f32 or "
         "auto, or --numerics fp8",
         format == ops::CacheFormat::kBf16 ? "bf16" : "fp8_e4m3");
  }
  if (!exact && format == ops::CacheFormat::kF32) {
    Fail(ErrorKind::kUsage,
         "--kv-cache-dtype f32 does not go with numerics fp8, whose activations are bf16: use "
         "--kv-cache-dtype "
         "bf16 or fp8_e4m3, or --numerics exact");
  }
  CheckHeads(settings, config, checkpoint_is_fp8);
  if (settings.ops == "cuda") {
    if (exact) {
      Fail(ErrorKind::kUsage,
           "--ops cuda computes in fp8 numerics (bf16 activations) alone: use --numerics fp8, or --ops cpu");
    }
    CheckGpuShapes(config);
    if (!settings.fault_plan.empty()) {
      Fail(ErrorKind::kUsage,
           "--fault-plan strikes messages in the host's memory, and with --ops cuda they are in the GPU's: "
           "use "
           "--ops cpu");
    }
  }
  if (settings.dense_tp && CeilDiv(config.intermediate_size, ops::kQuantBlock) < grid.lanes) {
    Fail(ErrorKind::kUsage,
         "--moe-dense-tp-size {} cuts the dense MLPs' {} channels into blocks of 128, of which there are {}: "
         "use "
         "--moe-dense-tp-size 1",
         grid.lanes, config.intermediate_size, CeilDiv(config.intermediate_size, ops::kQuantBlock));
  }
}

ops::Numerics NumericsOf(NumericsChoice choice, bool checkpoint_is_fp8) {
  if (choice == NumericsChoice::kAuto) return checkpoint_is_fp8 ? ops::Numerics::kFp8 : ops::Numerics::kExact;
  return choice == NumericsChoice::kFp8 ? ops::Numerics::kFp8 : ops::Numerics::kExact;
}

ops::CacheFormat CacheFormatOf(const JobSettings& settings, bool checkpoint_is_fp8) {
  if (settings.cache_format.has_value()) return *settings.cache_format;
  return NumericsOf(settings.numerics, checkpoint_is_fp8) == ops::Numerics::kExact ? ops::CacheFormat::kF32
                                                                                   : ops::CacheFormat::kFp8;
}

}  // namespace sluice::engine
