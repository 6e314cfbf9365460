// Tokens a second of a decode step on one GPU, with the layers launched as a graph and op by op.
//
//   decode_bench --model 'random:v3.2?layers=4&dense=1' --context 8192 --batch 1,16,64,128 --json FILE
//
// The whole of a model with few layers of real width, below the engine: embedding, layers, head, a token
// of each row as a rank samples it (pipeline/rank.cc). One prompt is computed, and every sequence gets
// a copy of its cache on pages of its own. Medians of the steps after the first few. "isolated" is every op
// of the layers alone on the device, its kernels back to back (timed_ops.h): what the layers take without
// gaps.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/clock.h"
#include "checkpoint/checkpoint.h"
#include "comm/replay_world.h"
#include "gpu_event.h"
#include "gpu_main.h"
#include "gpu_report.h"
#include "gpu_timing.h"
#include "median.h"
#include "model/activation_bytes.h"
#include "model/stage_model.h"
#include "ops/cuda/device.h"
#include "pipeline/decode_graphs.h"
#include "timed_ops.h"

namespace sluice::bench {
namespace {

using Milliseconds = std::chrono::duration<double, std::milli>;

struct Options {
  std::string model = "random:v3.2?layers=4&dense=1";
  int64_t context = 8192;
  std::vector<int64_t> batches = {1, 16, 64, 128};
  int steps = 20;
  std::string cache = "fp8_e4m3";
  float temperature = 0.0F;
  float top_p = 1.0F;
  bool ops = false;
  std::string json;
};

constexpr int kWarmSteps = 3;
constexpr auto kSplit = parallel::SplitMode::kInterleave;

struct Times {
  double step_ms = 0.0;          // by the clock, all of it
  double device_ms = 0.0;        // of the layers
  double host_ms = 0.0;          // until the layers are enqueued
  double sampling_ms = 0.0;      // head and sampling, by the clock
  std::vector<TimedCall> calls;  // as asked for
};

class Decoder {
 public:
  explicit Decoder(const Options& options)
      : options_(options),
        checkpoint_(checkpoint::Checkpoint::Open(options.model)),
        ops_(std::make_unique<TimedOps>(ops::cuda::MakeCudaOps(0))),
        stream_(dynamic_cast<ops::cuda::Stream&>(*ops_->stream())),
        world_(comm::MakeReplayWorld(0, 1, ops_->memory())),
        arena_(ops_->memory()),
        pages_each_(CeilDiv(options.context + options.steps + kWarmSteps, ops::kPageTokens)) {
    const auto& config = checkpoint_->config();
    const ops::CacheFormat format =
        options.cache == "bf16" ? ops::CacheFormat::kBf16 : ops::CacheFormat::kFp8;
    const int64_t most = std::ranges::max(options.batches);
    model::StageSlice slice;
    slice.layers = {{0, config.num_hidden_layers}};
    model::PassLimits limits = model::LargestPass(
        {std::max(options.context, most), most, pages_each_ * ops::kPageTokens}, 1, kSplit);
    model_ = std::make_unique<model::StageModel>(config, slice, model::LoadStage(*checkpoint_, *ops_, slice),
                                                 format, most * pages_each_, ops_->memory());
    limits.fp8_experts = model_->fp8_experts();
    ops::OpLimits op_limits = model::OpLimitsOf(config, slice, limits);
    op_limits.graph_rows = most;
    op_limits.recorded_layers = config.num_hidden_layers * std::ssize(options.batches);
    model_->Reserve(*ops_, op_limits);
    arena_.Reserve(model::ActivationBytes(config, ops_->numerics(), format, slice, limits));
    world_->SetFence([this](const StreamMark* mark) { ops_->FinishUpTo(mark); });
    x_ = OwnedTensor(DType::kBF16, limits.rows, config.hidden_size, ops_->memory());
    graphs_ = std::make_unique<pipeline::DecodeGraphs>(*model_, *ops_, arena_, parallel::Grid{}, kSplit);
    graphs_->Record(options.batches, 0);
    Prefill();
  }

  enum class Launch { kOps, kGraph };
  // The next token of each of `batch` sequences, `done` tokens behind their context.
  Times Step(int64_t batch, int64_t done, Launch launch, Timing timing = Timing::kNone) {
    const auto begin = Clock::now();
    arena_.Reset();
    step::Step step;
    for (int64_t i = 0; i < batch; ++i) {
      Add(step, i, options_.context + done, {static_cast<int32_t>((7 * i + done) % 1000)});
    }
    const model::Pass pass(step, *world_, nullptr, kSplit, *ops_, arena_);
    const Tensor x = x_.view().RowRange(0, pass.rows());
    model_->Embed(pass, x);
    const auto layers = Clock::now();
    if (timing != Timing::kNone) ops_->Begin(timing);
    begin_.Record(stream_);
    if (launch == Launch::kGraph) {
      graphs_->Layers(pass, 0, x);
    } else {
      model_->Layers(pass, 0, x);
    }
    end_.Record(stream_);
    Times times;
    times.host_ms = Milliseconds(Clock::now() - layers).count();
    if (timing != Timing::kNone) times.calls = ops_->End();
    ops_->Finish();
    const auto read_out = Clock::now();
    times.device_ms = end_.MsSince(begin_);
    std::vector<int64_t> wanted(static_cast<size_t>(batch));
    std::iota(wanted.begin(), wanted.end(), 0);
    model_->Head(pass, x, wanted, [&](int64_t, const Tensor& logits) {
      const auto rows = static_cast<size_t>(logits.rows);
      ops::SamplingParams params;
      params.temperature = options_.temperature;
      params.top_p = options_.top_p;
      const std::vector<ops::SamplingParams> of_rows(rows, params);
      const std::vector<ops::LogitAdjust> none(rows);
      const std::vector<int64_t> positions(rows, options_.context + done + 1);
      ops_->Sample(logits, of_rows, none, positions);
    });
    ops_->Finish();
    times.sampling_ms = Milliseconds(Clock::now() - read_out).count();
    times.step_ms = Milliseconds(Clock::now() - begin).count();
    return times;
  }

 private:
  void Add(step::Step& step, int64_t which, int64_t first, std::vector<int32_t> tokens) const {
    step::StepSequence& sequence = step.sequences.emplace_back();
    sequence.sequence = static_cast<uint64_t>(which);
    sequence.first_position = static_cast<int32_t>(first);
    sequence.pages.resize(static_cast<size_t>(CeilDiv(first + std::ssize(tokens), ops::kPageTokens)));
    std::iota(sequence.pages.begin(), sequence.pages.end(), static_cast<int32_t>(which * pages_each_));
    sequence.tokens = std::move(tokens);
  }

  // The first sequence's context, and copies of its pages for the others.
  void Prefill() {
    arena_.Reset();
    std::vector<int32_t> tokens(static_cast<size_t>(options_.context));
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7919 % 100000);
    step::Step step;
    Add(step, 0, 0, std::move(tokens));
    const model::Pass pass(step, *world_, nullptr, kSplit, *ops_, arena_);
    const Tensor x = x_.view().RowRange(0, pass.rows());
    model_->Embed(pass, x);
    model_->Layers(pass, 0, x);
    ops_->Finish();
    const cache::StageCache& cache = model_->cache();
    const auto copy = [&](const ops::PagedCache& pages, int64_t row_bytes) {
      const int64_t bytes = pages_each_ * ops::kPageTokens * row_bytes;
      for (int64_t i = 1; i < cache.pages() / pages_each_; ++i) {
        ops_->memory().Copy(pages.base, pages.base + i * bytes, bytes);
      }
    };
    for (int64_t layer = 0; layer < checkpoint_->config().num_hidden_layers; ++layer) {
      copy(cache.Latents(layer), cache.shape().latent_row_bytes());
      if (!cache.HasIndexKeys(layer)) continue;
      copy(cache.IndexKeys(layer), cache.shape().index_row_bytes());
    }
  }

  const Options options_;
  const std::unique_ptr<checkpoint::Checkpoint> checkpoint_;
  const std::unique_ptr<TimedOps> ops_;
  ops::cuda::Stream& stream_;
  const std::unique_ptr<comm::Communicator> world_;
  Arena arena_;
  const int64_t pages_each_;  // of a sequence
  std::unique_ptr<model::StageModel> model_;
  std::unique_ptr<pipeline::DecodeGraphs> graphs_;
  OwnedTensor x_;  // rows of a pass: outside the arena, of which a graph knows the addresses
  Event begin_, end_;
};

double MedianOf(const std::vector<Times>& all, double Times::*which) {
  std::vector<double> values;
  for (const Times& times : all) values.push_back(times.*which);
  return Median(std::move(values));
}

// The layers' ops of one step, those that take longest first.
void PrintOps(nlohmann::json ops) {
  std::stable_sort(ops.begin(), ops.end(), [](const nlohmann::json& a, const nlohmann::json& b) {
    const auto key = [](const nlohmann::json& op) {
      return std::pair(op.at("batch").get<int64_t>(), -op.at("isolated_ms").get<double>());
    };
    return key(a) < key(b);
  });
  fmt::print("\n| batch | op | calls | isolated, us |\n| ---: | --- | ---: | ---: |\n");
  for (const nlohmann::json& op : ops) {
    fmt::print("| {} | {} | {} | {:.1f} |\n", op.at("batch").get<int64_t>(), op.at("op").get<std::string>(),
               op.at("calls").get<int>(), 1e3 * op.at("isolated_ms").get<double>());
  }
}

void Run(const Options& options) {
  Decoder decoder(options);
  Sensors sensors;
  const std::string gpu = GpuName();
  nlohmann::json report = {{"gpu", gpu},
                           {"driver", sensors.DriverVersion()},
                           {"model", options.model},
                           {"context", options.context},
                           {"cache", options.cache},
                           {"steps", options.steps},
                           {"temperature", options.temperature},
                           {"top_p", options.top_p},
                           {"lines", nlohmann::json::array()}};
  fmt::print("{}, driver {}, {}, context {}\n\n", gpu, sensors.DriverVersion(), options.model,
             options.context);
  fmt::print(
      "| batch | layers launched | step, ms | tokens/s | layers, device ms | / isolated | layers enqueued, "
      "host ms | head and sampling, ms | MHz, lowest | W, highest |\n"
      "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
  for (const int64_t batch : options.batches) {
    decoder.Step(batch, 0, Decoder::Launch::kOps, Timing::kIsolated);
    const Times alone = decoder.Step(batch, 1, Decoder::Launch::kOps, Timing::kIsolated);
    double isolated_ms = 0.0;
    std::map<std::string, std::pair<int, double>> of_op;  // calls and milliseconds
    for (const TimedCall& call : alone.calls) {
      isolated_ms += call.ms;
      of_op[call.op].first += 1;
      of_op[call.op].second += call.ms;
    }
    for (const auto& [op, calls] : of_op) {
      report["ops"].push_back(
          {{"batch", batch}, {"op", op}, {"calls", calls.first}, {"isolated_ms", calls.second}});
    }
    for (const auto launch : {Decoder::Launch::kOps, Decoder::Launch::kGraph}) {
      std::vector<Times> all;
      for (int step = 0; step < kWarmSteps + options.steps; ++step) {
        if (step == kWarmSteps) sensors.Take();
        const Times times = decoder.Step(batch, step, launch);
        if (step >= kWarmSteps) all.push_back(times);
      }
      const Sensors::Reading reading = sensors.Take();
      const double step_ms = MedianOf(all, &Times::step_ms);
      const double device_ms = MedianOf(all, &Times::device_ms);
      const double host_ms = MedianOf(all, &Times::host_ms);
      const double sampling_ms = MedianOf(all, &Times::sampling_ms);
      const char* how = launch == Decoder::Launch::kGraph ? "graph" : "op by op";
      const double tokens_per_s = 1e3 * static_cast<double>(batch) / step_ms;
      fmt::print("| {} | {} | {:.3f} | {:.0f} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {} | {:.0f} |\n", batch,
                 how, step_ms, tokens_per_s, device_ms, device_ms / isolated_ms, host_ms, sampling_ms,
                 reading.lowest_mhz, reading.most_watts);
      report["lines"].push_back({{"batch", batch},
                                 {"launched", how},
                                 {"step_ms", step_ms},
                                 {"tokens_per_s", tokens_per_s},
                                 {"layers_device_ms", device_ms},
                                 {"isolated_ms", isolated_ms},
                                 {"layers_host_ms", host_ms},
                                 {"head_and_sampling_ms", sampling_ms},
                                 {"mhz", reading.lowest_mhz},
                                 {"watts", reading.most_watts}});
    }
  }
  if (options.ops) PrintOps(report["ops"]);
  WriteFigures(options.json, report);
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Options options;
  CLI::App app("Tokens a second of decode steps of a model with few layers, on GPU 0.");
  app.add_option("--model", options.model, "random:... that fits on the card.");
  app.add_option("--context", options.context, "Tokens before the first step.")->check(CLI::PositiveNumber);
  app.add_option("--batch", options.batches, "Sequences of a step; several, by commas.")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option("--steps", options.steps, "Steps that are timed.")->check(CLI::PositiveNumber);
  app.add_flag("--ops", options.ops, "Also a table of the layers' ops, each alone on the device.");
  app.add_option("--temperature", options.temperature, "Of every row; 0: greedy.");
  app.add_option("--top-p", options.top_p, "Of every row.");
  app.add_option("--kv-cache-dtype", options.cache, "")->check(CLI::IsMember({"bf16", "fp8_e4m3"}));
  sluice::bench::AddJsonFlag(app, options.json);
  CLI11_PARSE(app, argc, argv);
  return sluice::bench::Main("decode_bench", [&] { sluice::bench::Run(options); });
}
