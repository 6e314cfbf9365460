// Does the memory of a prefill grow with the context beyond what the cache holds?
//
// For each length a fresh process loads a checkpoint, computes one chunk, notes its peak resident memory, and
// computes a prompt of that length; what the peak has grown by, less the cache pages the longer prompt
// touched, is printed. Usage: prefill_memory [CHECKPOINT]; without one a tiny checkpoint is made.
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/checked.h"
#include "checkpoint/checkpoint_maker.h"
#include "engine/offline.h"
#include "model/shapes.h"

namespace sluice {
namespace {

constexpr int64_t kChunkRows = 1024;

double PeakMegabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024.0;
  }
  Fail(ErrorKind::kInternal, "/proc/self/status has no VmHWM line");
}

void Measure(const std::filesystem::path& model, int64_t tokens) {
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint = checkpoint::Checkpoint::Open(model);
  const auto& config = checkpoint->config();
  engine::JobSettings settings;
  settings.model_path = model;
  settings.cache_pages = CeilDiv(tokens + kChunkRows, ops::kPageTokens) + 2;
  engine::OfflineRunner runner(settings, kChunkRows, 1, engine::StartThreadRanks(settings, checkpoint, {}));
  const auto prompt_of = [&](int64_t length) {
    engine::OfflineRequest request;
    for (int64_t i = 0; i < length; ++i) {
      request.prompt.push_back(static_cast<int32_t>(i * 7919 % config.vocab_size));
    }
    return request;
  };
  runner.Run({prompt_of(kChunkRows)});
  const double before = PeakMegabytes();
  const auto result = runner.Run({prompt_of(tokens)}).front();
  const double grown = PeakMegabytes() - before;
  // The pages of the first prompt were free again, so the longer one touched only what lies beyond them.
  const auto numerics = engine::NumericsOf(settings.numerics, checkpoint->is_fp8());
  const double cache = static_cast<double>((tokens - kChunkRows) *
                                           model::CacheTokenBytes(config, model::CacheFormatOf(numerics), 0,
                                                                  config.num_hidden_layers)) /
                       (1024.0 * 1024.0);
  fmt::print(
      "{:>8} tokens  peak grew by {:8.1f} MiB  cache {:8.1f} MiB  beyond it {:7.1f} MiB  ({:.0f} tokens/s)\n",
      tokens, grown, cache, grown - cache, static_cast<double>(tokens) / result.seconds);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  std::filesystem::path model = argc > 1 ? argv[1] : "";
  std::string made;
  if (model.empty()) {
    made = (std::filesystem::temp_directory_path() / "sluice-memory-XXXXXX").string();
    if (mkdtemp(made.data()) == nullptr) return 1;
    model = std::filesystem::path(made) / "model";
    sluice::checkpoint::MakeOptions options;
    options.format = sluice::checkpoint::WeightFormat::kF32;
    sluice::checkpoint::MakeCheckpoint(model, options, sluice::checkpoint::PlanCheckpoint(options), {});
  }
  for (const int64_t tokens : {int64_t{2048}, int64_t{8192}, int64_t{32768}}) {
    const pid_t child = fork();
    if (child == 0) {
      sluice::Measure(model, tokens);
      std::fflush(stdout);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) return 1;
  }
  if (!made.empty()) std::filesystem::remove_all(made);
  return 0;
}
