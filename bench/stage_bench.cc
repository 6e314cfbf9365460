#include <cuda_runtime.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "base/checked.h"
#include "base/clock.h"
#include "checkpoint/checkpoint.h"
#include "comm/replay_world.h"
#include "gpu_event.h"
#include "model/activation_bytes.h"
#include "model/stage_model.h"
#include "ops/cuda/device.h"
#include "ops/cuda/stream.h"
#include "parallel/layer_cut.h"
#include "tensor/counter_random.h"

// How long one rank of a large layout computes at a chunk of a long prompt: its stage's layers on its share
// of the rows, with a replay of its own rows in place of those of the absent lanes (comm/replay_world.h).
//   stage_bench --model random:v3.2 --pp-size 2 --stage 0 --lanes 8 --chunk 8192 --prompt 49152 --json FILE
// The chunks of a prompt follow one another over a cache that they fill; then the next round. Per chunk:
// device time between events on the rank's stream around its layers, copies that stand in for the lanes'
// traffic included; the median over the rounds after the first.
namespace sluice {
namespace {

struct Options {
  std::string model = "random:v3.2";
  int stages = 2;
  int stage = 0;
  int lanes = 8;
  int lane = 0;
  int64_t chunk = 8192;
  int64_t prompt = 49152;
  int rounds = 3;
  std::string cache = "fp8_e4m3";
  std::string json;
};

// One rank's stage and everything a pass needs.
class Stage {
 public:
  explicit Stage(const Options& options)
      : options_(options),
        checkpoint_(checkpoint::Checkpoint::Open(options.model)),
        ops_(ops::cuda::MakeCudaOps(0)),
        stream_(dynamic_cast<ops::cuda::Stream&>(*ops_->stream())),
        world_(comm::MakeReplayWorld(options.lane, options.lanes, ops_->memory())),
        arena_(ops_->memory()) {
    const auto& config = checkpoint_->config();
    const ops::CacheFormat format =
        options.cache == "bf16" ? ops::CacheFormat::kBf16 : ops::CacheFormat::kFp8;
    model::StageSlice slice;
    slice.layers = {parallel::DefaultLayerCut(config.num_hidden_layers, options.stages)[options.stage]};
    slice.lane = options.lane;
    slice.lanes = slice.expert_owners = options.lanes;
    slice.first = slice.last = false;  // layers alone
    layers_ = slice.layers.front();
    const int64_t pages = CeilDiv(options.prompt, ops::kPageTokens);
    const model::PassLimits limits = model::LargestPass({options.chunk, 1, options.prompt}, options.lanes,
                                                        parallel::SplitMode::kInterleave);
    model_ = std::make_unique<model::StageModel>(config, slice, model::LoadStage(*checkpoint_, *ops_, slice),
                                                 format, pages, ops_->memory());
    ops_->Reserve(model::OpLimitsOf(config, slice, limits));
    arena_.Reserve(model::ActivationBytes(config, ops_->numerics(), format, slice, limits) +
                   limits.rows * config.hidden_size * SizeOf(DType::kBF16));
    world_->SetFence([this] { ops_->Finish(); });
    pages_.resize(static_cast<size_t>(pages));
    std::iota(pages_.begin(), pages_.end(), 0);
  }

  struct Times {
    double device_ms = 0.0;
    double host_ms = 0.0;  // until all is enqueued
    int64_t bytes_received = 0;
  };
  Times Compute(int64_t first, int64_t rows) {
    arena_.Reset();
    step::Step step;
    step::StepSequence& sequence = step.sequences.emplace_back();
    sequence.first_position = static_cast<int32_t>(first);
    sequence.tokens.assign(static_cast<size_t>(rows), 0);
    sequence.pages.assign(pages_.begin(), pages_.begin() + CeilDiv(first + rows, ops::kPageTokens));
    const model::Pass pass(step, *world_, nullptr, parallel::SplitMode::kInterleave, *ops_, arena_);
    const Tensor x = pass.NewActivation(pass.rows(), model_->hidden_size());
    Fill(x, first);
    const int64_t received = world_->bytes_received();
    const auto begin = Clock::now();
    begin_.Record(stream_);
    model_->Layers(pass, 0, x);
    end_.Record(stream_);
    const std::chrono::duration<double, std::milli> host = Clock::now() - begin;
    ops_->Finish();
    return {end_.MsSince(begin_), host.count(), world_->bytes_received() - received};
  }

  const parallel::LayerRange& layers() const { return layers_; }

 private:
  // Rows as an earlier stage might send them: of unit size, each its own.
  void Fill(const Tensor& x, int64_t seed) {
    std::vector<uint16_t> values(static_cast<size_t>(x.rows * x.cols));
    for (size_t i = 0; i < values.size(); ++i) {
      const uint64_t hash = SplitMix64(static_cast<uint64_t>(seed) * 0x9e3779b97f4a7c15 + i);
      // +-[0.5, 1) and +-[1, 2) in bf16.
      values[i] = static_cast<uint16_t>((hash & 0x8000) | (0x3f00 + (hash >> 16 & 0xff)));
    }
    ops_->memory().Copy(values.data(), x.data, x.bytes());
  }

  const Options options_;
  const std::unique_ptr<checkpoint::Checkpoint> checkpoint_;
  const std::unique_ptr<ops::Ops> ops_;
  ops::cuda::Stream& stream_;
  const std::unique_ptr<comm::Communicator> world_;
  Arena arena_;
  std::unique_ptr<model::StageModel> model_;
  parallel::LayerRange layers_;
  std::vector<int32_t> pages_;
  bench::Event begin_, end_;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

void Run(const Options& options) {
  Stage stage(options);
  cudaDeviceProp properties{};
  ops::cuda::Check(cudaGetDeviceProperties(&properties, 0), "asking what GPU 0 is");
  nlohmann::json report = {{"gpu", properties.name},
                           {"model", options.model},
                           {"stages", options.stages},
                           {"stage", options.stage},
                           {"layers", {stage.layers().begin, stage.layers().end}},
                           {"lanes", options.lanes},
                           {"lane", options.lane},
                           {"chunk", options.chunk},
                           {"cache", options.cache},
                           {"rounds", options.rounds},
                           {"chunks", nlohmann::json::array()}};
  const int64_t chunks = CeilDiv(options.prompt, options.chunk);
  std::vector<std::vector<Stage::Times>> times(static_cast<size_t>(chunks));
  for (int round = 0; round < options.rounds; ++round) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t first = chunk * options.chunk;
      times[chunk].push_back(stage.Compute(first, std::min(options.chunk, options.prompt - first)));
    }
  }
  fmt::print("{}, {}: layers {} to {}, lane {} of {}, chunks of {}\n\n", properties.name, options.model,
             stage.layers().begin, stage.layers().end, options.lane, options.lanes, options.chunk);
  fmt::print("| prefix | device, ms | host, ms | from other lanes, MB |\n| ---: | ---: | ---: | ---: |\n");
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    std::vector<double> device, host;
    for (size_t round = options.rounds > 1 ? 1 : 0; round < times[chunk].size(); ++round) {
      device.push_back(times[chunk][round].device_ms);
      host.push_back(times[chunk][round].host_ms);
    }
    const int64_t prefix = chunk * options.chunk;
    const int64_t bytes = times[chunk].back().bytes_received;
    fmt::print("| {} | {:.2f} | {:.2f} | {:.1f} |\n", prefix, Median(device), Median(host),
               static_cast<double>(bytes) / 1e6);
    report["chunks"].push_back({{"prefix", prefix},
                                {"device_ms", Median(device)},
                                {"device_ms_of_rounds", device},
                                {"host_ms", Median(host)},
                                {"bytes_received", bytes}});
  }
  if (!options.json.empty()) std::ofstream(options.json) << report.dump(2) << "\n";
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  sluice::Options options;
  CLI::App app("Device time of one rank's stage, chunk by chunk of a long prompt, on GPU 0.");
  app.add_option("--model", options.model, "random:...");
  app.add_option("--pp-size", options.stages, "Stages of the layout.")->check(CLI::PositiveNumber);
  app.add_option("--stage", options.stage, "This rank's stage.")->check(CLI::NonNegativeNumber);
  app.add_option("--lanes", options.lanes, "Lanes of the stage (tp = cp = ep).")->check(CLI::PositiveNumber);
  app.add_option("--lane", options.lane, "This rank's lane.")->check(CLI::NonNegativeNumber);
  app.add_option("--chunk", options.chunk, "Rows of a step, over all lanes.")->check(CLI::PositiveNumber);
  app.add_option("--prompt", options.prompt, "Tokens of the prompt.")->check(CLI::PositiveNumber);
  app.add_option("--rounds", options.rounds, "Times that the prompt is computed.")
      ->check(CLI::PositiveNumber);
  app.add_option("--kv-cache-dtype", options.cache, "")->check(CLI::IsMember({"bf16", "fp8_e4m3"}));
  app.add_option("--json", options.json, "A file for the figures.");
  CLI11_PARSE(app, argc, argv);
  try {
    if (options.stage >= options.stages || options.lane >= options.lanes) {
      sluice::Fail(sluice::ErrorKind::kUsage, "there is no stage {} of {} or no lane {} of {}", options.stage,
                   options.stages, options.lane, options.lanes);
    }
    sluice::Run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "stage_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
