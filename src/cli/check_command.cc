#include "cli/check_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/inventory.h"
#include "checkpoint/json_file.h"
#include "checkpoint/random_path.h"
#include "cli/sampling_flags.h"
#include "text/tokenizer.h"

namespace sluice::cli {
namespace {

// A tokenizer that cannot be read, or one with ids the model has no row for.
void CheckTokenizer(const std::filesystem::path& directory, const checkpoint::Inventory& inventory,
                    checkpoint::Defects& defects) {
  const std::filesystem::path file = directory / "tokenizer.json";
  if (!std::filesystem::exists(file)) {
    defects.Add("{}: is not there; a Hugging Face tokenizer.json is expected.", file.string());
    return;
  }
  try {
    const auto tokenizer = text::Tokenizer::Load(file);
    if (inventory.config && tokenizer->vocab_size() > inventory.config->vocab_size) {
      defects.Add("{} has ids up to {}, but vocab_size in config.json is {}.", file.string(),
                  tokenizer->vocab_size() - 1, inventory.config->vocab_size);
    }
  } catch (const Error& error) {
    defects.Add("{}", error.what());
  }
}

// Defaults of requests with which the server would not start. The file may be missing.
void CheckGenerationConfig(const std::filesystem::path& directory, checkpoint::Defects& defects) {
  const std::filesystem::path file = directory / "generation_config.json";
  if (!std::filesystem::exists(file)) return;
  const auto text = checkpoint::ReadText(file, defects);
  if (!text) return;
  try {
    DefaultsOf({}, directory.string(), text);
  } catch (const Error& error) {
    defects.Add("{}", error.what());
  }
}

void CheckModel(const std::string& directory) {
  if (checkpoint::IsRandomPath(directory)) {
    const auto model = checkpoint::Checkpoint::Open(directory);
    fmt::print("ok: {} tensors, {} bytes, made where they are wanted\n", model->tensor_count(),
               model->tensor_bytes());
    return;
  }
  checkpoint::Defects defects;
  const checkpoint::Inventory inventory = checkpoint::TakeInventory(directory, defects);
  checkpoint::CheckScaleValues(inventory, defects);
  if (std::filesystem::is_directory(directory)) {
    CheckTokenizer(directory, inventory, defects);
    CheckGenerationConfig(directory, defects);
  }
  for (const std::string& sentence : defects.sentences()) fmt::print("{}\n", sentence);
  std::fflush(stdout);
  if (!defects.empty()) {
    Fail(ErrorKind::kModelFiles, "{} has {} defect{}.", directory, defects.sentences().size(),
         defects.sentences().size() == 1 ? "" : "s");
  }
  fmt::print("ok: {}\n", checkpoint::Summary(inventory));
}

}  // namespace

void AddCheckCommand(CLI::App& app) {
  CLI::App* check = app.add_subcommand("check", "List every defect of a checkpoint directory");
  auto directory = std::make_shared<std::string>();
  check
      ->add_option("model", *directory,
                   "The directory of a Hugging Face checkpoint, or random:PRESET?key=value&...")
      ->required();
  check->callback([directory] { CheckModel(*directory); });
}

}  // namespace sluice::cli
