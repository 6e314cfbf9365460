#include <fmt/core.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

#include "base/error.h"
#include "checkpoint/random_path.h"
#include "checkpoint/safetensors_writer.h"
#include "gpu_run.h"
#include "one_rank.h"

// gpu_record_run MODEL TOKENS DIRECTORY [cuda|cpu] [fp8|bf16]: feeds a random model a prompt in one step and
// writes what transformers_compare.py needs to repeat it elsewhere: config.json and run.json (seed and gain
// of the weights), and as plain little-endian arrays tokens.i32 [T], logits.f32 [T, vocabulary] and
// selections.i32 [layers with an indexer, T, index_topk], positions ascending, -1 after the last.
namespace sluice::gpu {
namespace {

template <typename T>
void Append(std::ofstream& file, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void Record(const std::string& model, int64_t tokens, const std::filesystem::path& directory,
            const std::string& ops, const std::string& cache) {
  const auto format = cache == "bf16" ? ops::CacheFormat::kBf16 : ops::CacheFormat::kFp8;
  const checkpoint::RandomModel random = checkpoint::ParseRandomPath(model);
  OneRank rank(model, ops, format, tokens);
  const std::vector<int32_t> prompt = Prompt(tokens, 3, rank.vocabulary());
  const OneRank::Fed fed = rank.Feed(prompt, 0);

  std::filesystem::create_directories(directory);
  checkpoint::WriteTextFile(directory / "config.json", checkpoint::PlanCheckpoint(random).config_text);
  checkpoint::WriteTextFile(directory / "run.json",
                            fmt::format("{{\"seed\": {}, \"embedding_gain\": {}, \"ops\": \"{}\", "
                                        "\"cache\": \"{}\"}}\n",
                                        random.seed, random.embedding_gain, ops, cache));
  std::ofstream ids(directory / "tokens.i32", std::ios::binary);
  Append(ids, prompt);
  std::ofstream logits(directory / "logits.f32", std::ios::binary);
  Append(logits, fed.logits);
  std::ofstream selections(directory / "selections.i32", std::ios::binary);
  for (const auto& layer : fed.selections) Append(selections, layer);
  SLUICE_CHECK(ids && logits && selections, "the run could not be written to {}", directory.string());
}

}  // namespace
}  // namespace sluice::gpu

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() < 3) {
    std::fprintf(stderr, "usage: gpu_record_run MODEL TOKENS DIRECTORY [cuda|cpu] [fp8|bf16]\n");
    return 2;
  }
  const std::string ops = arguments.size() > 3 ? arguments[3] : "cuda";
  const std::string cache = arguments.size() > 4 ? arguments[4] : "fp8";
  sluice::gpu::Record(arguments[0], std::stoll(arguments[1]), arguments[2], ops, cache);
}
