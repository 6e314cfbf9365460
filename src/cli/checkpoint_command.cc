#include "cli/checkpoint_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/checkpoint_maker.h"
#include "checkpoint/load_progress.h"
#include "checkpoint/presets.h"
#include "checkpoint/recall_weights.h"
#include "cli/human_size.h"
#include "cli/parse_errors.h"

namespace sluice::cli {
namespace {

struct MakeArguments {
  std::string directory;
  std::string kind = "random";
  std::string dtype = "bf16";
  checkpoint::MakeOptions options;
};

void Make(MakeArguments arguments) {
  checkpoint::MakeOptions& options = arguments.options;
  options.format = checkpoint::ParseWeightFormat(arguments.dtype);
  options.threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 64U));
  const checkpoint::CheckpointPlan plan =
      arguments.kind == "recall" ? checkpoint::PlanRecall(options) : checkpoint::PlanCheckpoint(options);
  fmt::print("Making {}: {}, preset {}, {} layers, {} tensors, {} as {}, seed {}.\n", arguments.directory,
             arguments.kind, options.preset, plan.config.num_hidden_layers, plan.tensors,
             checkpoint::ShownBytes(static_cast<double>(plan.bytes)), arguments.dtype, options.seed);
  std::fflush(stdout);
  checkpoint::LoadProgressBar bar("Writing", stderr);
  checkpoint::MakeCheckpoint(arguments.directory, options, plan, bar.callback());
}

}  // namespace

void AddCheckpointCommand(CLI::App& app) {
  CLI::App* group = app.add_subcommand("checkpoint", "Make checkpoints");
  group->require_subcommand(1);
  CLI::App* make =
      group->add_subcommand("make", "Write a DeepSeek-V3.2 or GLM-5 checkpoint, random or one that recalls");
  auto arguments = std::make_shared<MakeArguments>();
  checkpoint::MakeOptions& options = arguments->options;
  make->add_option("directory", arguments->directory, "Where to write; new or empty")->required();
  make->add_option("--kind", arguments->kind,
                   "random: speaks nonsense; recall: answers \".. k17=v42 .. k17=\" with \"v42\"")
      ->check(CLI::IsMember({"random", "recall"}))
      ->capture_default_str();
  make->add_option("--preset", options.preset, fmt::format("{}", fmt::join(checkpoint::PresetNames(), ", ")))
      ->capture_default_str();
  make->add_option("--dtype", arguments->dtype, "f32, bf16 or fp8")->capture_default_str();
  make->add_option("--seed", options.seed, "Equal seeds give equal bytes")
      ->check(Unsigned())
      ->capture_default_str();
  make->add_option("--layers", options.layers, "The first so many of the preset's layers")->check(AtLeast(1));
  make->add_option(
          "--embedding-gain", options.embedding_gain,
          "Factor on the embedding, a power of two: how much more the residual stream has than a layer adds")
      ->capture_default_str();
  make->add_option("--config-override", options.config_overrides,
                   "key=value of config.json instead of the preset's; may be repeated");
  make->add_option("--shard-bytes", options.shard_bytes, "Largest shard")
      ->transform(HumanCount())
      ->check(AtLeast(1))
      ->capture_default_str();
  make->callback([arguments] { Make(*arguments); });
}

}  // namespace sluice::cli
