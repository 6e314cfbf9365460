#include "short_model.h"

#include "checkpoint/checkpoint_maker.h"
#include "temporary_directory.h"

namespace sluice::layouts {
namespace {

std::filesystem::path Make(const std::filesystem::path& under, bool fp8) {
  checkpoint::MakeOptions options;
  options.preset = "tiny";
  options.format = fp8 ? checkpoint::WeightFormat::kFp8 : checkpoint::WeightFormat::kF32;
  options.seed = 12;
  options.config_overrides = {"hidden_size=32",
                              "num_hidden_layers=4",
                              "num_attention_heads=2",
                              "intermediate_size=32",
                              "moe_intermediate_size=16",
                              "n_routed_experts=4",
                              "n_group=2",
                              "topk_group=1",
                              "num_experts_per_tok=2",
                              "index_n_heads=2",
                              "index_topk=16",
                              "index_head_dim=32",
                              "kv_lora_rank=32",
                              "q_lora_rank=32",
                              "qk_rope_head_dim=16",
                              "qk_nope_head_dim=16",
                              "v_head_dim=16",
                              "vocab_size=272"};
  const auto directory = under / (fp8 ? "fp8" : "f32");
  checkpoint::MakeCheckpoint(directory, options, checkpoint::PlanCheckpoint(options), {});
  return directory;
}

}  // namespace

const std::filesystem::path& ShortModelPath(bool fp8) {
  static const TemporaryDirectory directory;
  static const std::filesystem::path exact_path = Make(directory.path(), false);
  static const std::filesystem::path fp8_path = Make(directory.path(), true);
  return fp8 ? fp8_path : exact_path;
}

std::shared_ptr<const checkpoint::Checkpoint> ShortModel(bool fp8) {
  static const std::shared_ptr<const checkpoint::Checkpoint> exact =
      checkpoint::Checkpoint::Open(ShortModelPath(false));
  static const std::shared_ptr<const checkpoint::Checkpoint> quantised =
      checkpoint::Checkpoint::Open(ShortModelPath(true));
  return fp8 ? quantised : exact;
}

}  // namespace sluice::layouts
