#include "cli/bench_engine_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "bench/statistics.h"
#include "bench/timeline.h"
#include "bench/workload.h"
#include "cli/bench_flags.h"
#include "cli/human_size.h"
#include "cli/layout_flags.h"
#include "cli/parse_errors.h"
#include "cli/pipeline_view.h"
#include "cli/schedule_flags.h"
#include "engine/offline.h"

namespace sluice::cli {
namespace {

using bench::Json;

struct EngineBenchFlags {
  LayoutFlags layout;
  std::vector<int64_t> input_len{4096};
  std::vector<int64_t> chunk_sizes;  // of bench prefill; empty: --chunked-prefill-size
  std::vector<int64_t> batch{1};     // of bench decode
  int64_t output_len = 32;           // of bench decode
  int64_t repeats = 3;
  uint64_t seed = 42;
  OutputFlags output;
};

std::string LayoutName(const engine::JobSettings& settings) {
  const parallel::Grid& grid = settings.grid;
  std::string name = fmt::format("pp {} x tp {}", grid.stages, grid.lanes);
  if (grid.virtual_stages > 1) name += fmt::format(", {} virtual stages", grid.virtual_stages);
  return name + ", " + settings.ops;
}

// Prompts of token ids that share nothing.
std::vector<engine::OfflineRequest> Prompts(int64_t count, int64_t tokens, int64_t vocab_size,
                                            uint64_t seed) {
  std::vector<engine::OfflineRequest> requests;
  for (bench::LoadRequest& request : bench::RandomIds({count, tokens, 1, 1.0}, vocab_size, seed)) {
    requests.emplace_back().prompt = std::get<std::vector<int32_t>>(std::move(request.prompt));
  }
  return requests;
}

void CheckCommon(const EngineBenchFlags& flags) {
  CheckRange("--input-len", flags.input_len, 1, 100'000'000);
  CheckRange("--chunk-sizes", flags.chunk_sizes, 1, 100'000'000);
  CheckRange("--batch-size", flags.batch, 1, 100'000);
  CheckRange("--output-len", {flags.output_len}, 2, 1'000'000);
  CheckRange("--repeats", {flags.repeats}, 1, 1'000'000);
  CheckRange("--nnodes", {flags.layout.nnodes}, 1, 1);
}

// A job for sequences of so many tokens, `batch` of them at a time: its context and cache are as large as
// that needs, where the flags do not say.
engine::JobSettings SettingsFor(LayoutFlags flags, const checkpoint::Checkpoint& checkpoint, int64_t tokens,
                                int64_t batch) {
  if (tokens > checkpoint.config().max_position_embeddings) {
    Fail(ErrorKind::kUsage, "{} tokens are more than the model's {} positions: use a shorter --input-len",
         tokens, checkpoint.config().max_position_embeddings);
  }
  if (!flags.context_length) flags.context_length = tokens;
  if (!flags.max_total_tokens && !flags.mem_fraction_static) {
    constexpr int64_t kSpare = 8 * ops::kPageTokens;  // the page begun, and what steps in flight take ahead
    flags.max_total_tokens = batch * (tokens + kSpare);
  }
  return SettingsOf(flags, checkpoint);
}

// Only what began at `since` or later.
void DropBefore(int64_t since_ns, std::vector<trace::Lane>& lanes) {
  for (trace::Lane& lane : lanes) {
    std::erase_if(lane.spans, [since_ns](const trace::Span& span) { return span.begin_ns < since_ns; });
  }
}

void PrefillOne(const EngineBenchFlags& flags, std::shared_ptr<const checkpoint::Checkpoint> checkpoint,
                int64_t tokens, int64_t chunk, ResultSink& sink) {
  LayoutFlags layout = flags.layout;
  layout.chunked_prefill_size = chunk;
  const engine::JobSettings settings = SettingsFor(layout, *checkpoint, tokens + 1, 1);
  const int64_t vocab_size = checkpoint->config().vocab_size;
  const int64_t rows = EngineOptionsOf(layout, settings).chunk_rows;
  if (chunk < 1) chunk = tokens;  // --chunked-prefill-size -1: the prompt is one chunk
  engine::OfflineRunner runner(settings, rows, 1, StartRanks(layout, settings, std::move(checkpoint)));
  runner.Run(
      Prompts(1, std::min(tokens, chunk), vocab_size, flags.seed));  // memory is touched, threads are up
  std::vector<double> ttft_ms;
  int64_t last_begin_ns = 0;
  for (int64_t i = 0; i < flags.repeats; ++i) {
    last_begin_ns = NowNs();
    const auto results = runner.Run(Prompts(1, tokens, vocab_size, flags.seed));
    ttft_ms.push_back(1e3 * results.front().first_token_seconds);
  }
  const trace::BusyShares busy = BusyOf(runner.job(), settings.grid);
  std::vector<trace::Lane> lanes = LanesOf(runner.job(), settings.grid);
  DropBefore(last_begin_ns, lanes);
  const bench::Summary ttft = bench::SummaryOf(ttft_ms);
  const double rate = 1e3 * static_cast<double>(tokens) / ttft.median;
  const double floor = trace::PipelineFloor(lanes);
  fmt::print("{} tokens in chunks of {}: TTFT {:.1f} ms (median of {}, std {:.1f}), {:.1f} tokens/s\n",
             tokens, chunk, ttft.median, flags.repeats, ttft.std, rate);
  fmt::print("{}", bench::TimelineText(lanes));
  fmt::print(
      "the ranks' time: compute {:.1f} %, wait {:.1f} %, hop {:.1f} %, idle {:.1f} %; bubble {:.1f} %, of "
      "which "
      "(S-1) x longest chunk / makespan cannot be avoided: {:.1f} %\n\n",
      100.0 * busy.all.compute, 100.0 * busy.all.wait, 100.0 * busy.all.hop, 100.0 * busy.all.idle,
      100.0 * busy.all.bubble(), 100.0 * floor);
  std::fflush(stdout);
  sink.Add({{"kind", "prefill"},
            {"layout", LayoutName(settings)},
            {"model", flags.layout.model_path},
            {"input_len", tokens},
            {"chunk_size", chunk},
            {"repeats", flags.repeats},
            {"ttfts_ms", ttft_ms},
            {"median_ttft_ms", ttft.median},
            {"mean_ttft_ms", ttft.mean},
            {"std_ttft_ms", ttft.std},
            {"tokens_per_second", rate},
            {"bubble", busy.all.bubble()},
            {"bubble_floor", floor},
            {"compute", busy.all.compute},
            {"wait", busy.all.wait},
            {"hop", busy.all.hop},
            {"idle", busy.all.idle},
            {"timeline", bench::TimelineJson(lanes)}});
}

void Prefill(const EngineBenchFlags& flags) {
  CheckCommon(flags);
  ResultSink sink(flags.output);
  const std::shared_ptr<const checkpoint::Checkpoint> checkpoint =
      checkpoint::Checkpoint::Open(flags.layout.model_path);
  std::vector<int64_t> chunks = flags.chunk_sizes;
  if (chunks.empty()) chunks.push_back(flags.layout.chunked_prefill_size);
  for (const int64_t tokens : flags.input_len) {
    for (const int64_t chunk : chunks) PrefillOne(flags, checkpoint, tokens, chunk, sink);
  }
}

// Decoding with the whole batch: from the last first token to the first end.
struct DecodeTimes {
  double tokens_per_second = 0.0;
  std::vector<double> step_ms;  // between a sequence's tokens
};
DecodeTimes TimesOf(const std::vector<engine::OfflineResult>& results) {
  double begin = 0.0;
  double end = results.front().seconds;
  for (const engine::OfflineResult& result : results) {
    begin = std::max(begin, result.first_token_seconds);
    end = std::min(end, result.seconds);
  }
  DecodeTimes times;
  int64_t tokens = 0;
  for (const engine::OfflineResult& result : results) {
    const std::vector<double>& at = result.token_seconds;
    for (size_t i = 1; i < at.size(); ++i) {
      if (at[i] <= begin || at[i] > end) continue;
      ++tokens;
      times.step_ms.push_back(1e3 * (at[i] - at[i - 1]));
    }
  }
  if (end > begin) times.tokens_per_second = static_cast<double>(tokens) / (end - begin);
  return times;
}

void DecodeOne(const EngineBenchFlags& flags, std::shared_ptr<const checkpoint::Checkpoint> checkpoint,
               int64_t depth, int64_t batch, ResultSink& sink) {
  LayoutFlags layout = flags.layout;
  layout.max_running_requests = std::max(layout.max_running_requests, batch);
  const engine::JobSettings settings = SettingsFor(layout, *checkpoint, depth + flags.output_len, batch);
  const int64_t vocab_size = checkpoint->config().vocab_size;
  engine::OfflineRunner runner(settings, EngineOptionsOf(layout, settings).chunk_rows,
                               layout.max_running_requests,
                               StartRanks(layout, settings, std::move(checkpoint)), /*keeps_prefixes=*/true);
  std::vector<engine::OfflineRequest> requests = Prompts(batch, depth, vocab_size, flags.seed);
  // The prompts are computed once and found in the cache from then on, so that all sequences begin together.
  runner.Run(requests);
  for (engine::OfflineRequest& request : requests) request.max_tokens = flags.output_len;
  std::vector<double> rates, step_ms;
  for (int64_t i = 0; i < flags.repeats; ++i) {
    const DecodeTimes times = TimesOf(runner.Run(requests));
    rates.push_back(times.tokens_per_second);
    step_ms.insert(step_ms.end(), times.step_ms.begin(), times.step_ms.end());
  }
  const bench::Summary rate = bench::SummaryOf(rates);
  const bench::Summary step = bench::SummaryOf(step_ms);
  fmt::print(
      "depth {}, {} sequence{}: {:.2f} tokens/s (median of {}, std {:.2f}); {:.2f} ms between a sequence's "
      "tokens "
      "(median; P99 {:.2f})\n",
      depth, batch, batch == 1 ? "" : "s", rate.median, flags.repeats, rate.std, step.median, step.p99);
  std::fflush(stdout);
  sink.Add({{"kind", "decode"},
            {"layout", LayoutName(settings)},
            {"model", flags.layout.model_path},
            {"depth", depth},
            {"batch", batch},
            {"output_len", flags.output_len},
            {"repeats", flags.repeats},
            {"tokens_per_second", rate.median},
            {"std_tokens_per_second", rate.std},
            {"median_step_ms", step.median},
            {"p99_step_ms", step.p99}});
}

void Decode(const EngineBenchFlags& flags) {
  CheckCommon(flags);
  ResultSink sink(flags.output);
  const std::shared_ptr<const checkpoint::Checkpoint> checkpoint =
      checkpoint::Checkpoint::Open(flags.layout.model_path);
  for (const int64_t depth : flags.input_len) {
    for (const int64_t batch : flags.batch) DecodeOne(flags, checkpoint, depth, batch, sink);
  }
}

CLI::App* AddCommon(CLI::App& group_app, const char* name, const char* says, EngineBenchFlags& flags,
                    const char* input_says) {
  CLI::App* command = group_app.add_subcommand(name, says);
  command->option_defaults()->always_capture_default();
  const char* group = "Measurement";
  command
      ->add_option("--model-path,--model,MODEL", flags.layout.model_path,
                   "Directory of the checkpoint, or random:PRESET?key=value&...")
      ->required()
      ->group(group);
  command->add_option("--input-len", flags.input_len, input_says)
      ->delimiter(',')
      ->transform(HumanCount())
      ->group(group);
  command->add_option("--repeats", flags.repeats, "Measurements of each")->group(group);
  command->add_option("--seed", flags.seed, "Of the prompts")->check(Unsigned())->group(group);
  AddOutputFlags(*command, flags.output);
  AddLayoutFlags(*command, flags.layout);
  return command;
}

}  // namespace

void AddBenchEngineCommands(CLI::App& group) {
  auto prefill_flags = std::make_shared<EngineBenchFlags>();
  CLI::App* prefill = AddCommon(group, "prefill", "One prompt through the engine in this process",
                                *prefill_flags, "Tokens of the prompt; a list measures each");
  prefill
      ->add_option("--chunk-sizes", prefill_flags->chunk_sizes,
                   "Rows of a chunk, a list; default --chunked-prefill-size. Each starts the ranks anew")
      ->delimiter(',')
      ->transform(HumanCount())
      ->group("Measurement");
  prefill->callback([prefill_flags] { Prefill(*prefill_flags); });

  auto decode_flags = std::make_shared<EngineBenchFlags>();
  CLI::App* decode = AddCommon(group, "decode", "Answers at a depth, by the engine in this process",
                               *decode_flags, "Tokens before the answer; a list measures each");
  decode
      ->add_option("--batch-size", decode_flags->batch,
                   "Sequences that decode together; a list measures each")
      ->delimiter(',')
      ->group("Measurement");
  decode->add_option("--output-len", decode_flags->output_len, "Tokens of an answer")->group("Measurement");
  decode->callback([decode_flags] { Decode(*decode_flags); });
}

}  // namespace sluice::cli
