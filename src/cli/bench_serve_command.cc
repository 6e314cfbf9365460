#include "cli/bench_serve_command.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "bench/load_client.h"
#include "bench/load_run.h"
#include "bench/server_facts.h"
#include "bench/serving_result.h"
#include "bench/timeline.h"
#include "bench/workload.h"
#include "cli/bench_flags.h"
#include "cli/bench_profile.h"
#include "cli/bench_serve_flags.h"
#include "text/tokenizer.h"

namespace sluice::cli {
namespace {

using bench::Json;

// Ids below this stand for a token in every tokenizer of a present-day language model.
constexpr int64_t kCommonVocabulary = 32000;
constexpr int64_t kWarmupOutput = 32;

// As Python writes a float.
std::string Shown(double rate) {
  if (std::isinf(rate)) return "inf";
  return rate == std::floor(rate) ? fmt::format("{:.1f}", rate) : fmt::format("{}", rate);
}

Json ExtraBody(const std::string& text) {
  if (text.empty()) return Json::object();
  Json body = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!body.is_object()) {
    Fail(ErrorKind::kUsage, "--extra-request-body is no JSON object, such as '{{\"top_k\": 1}}'");
  }
  return body;
}

client::ClientOptions ClientOf(const BenchServeFlags& flags) {
  client::ClientOptions options;
  options.server = client::ParseUrl(
      flags.base_url.empty() ? fmt::format("http://{}:{}", flags.host, flags.port) : flags.base_url);
  if (const char* key = std::getenv("OPENAI_API_KEY")) options.api_key = key;
  options.silence_timeout = Duration(static_cast<int64_t>(flags.timeout_seconds * 1e9));
  return options;
}

// How many token ids there are to choose from, and a sentence that says whence that is known.
int64_t VocabularyOf(const BenchServeFlags& flags, const bench::ServerFacts& facts) {
  if (flags.vocab_size > 0) return flags.vocab_size;
  if (!flags.tokenizer.empty()) {
    std::filesystem::path file = flags.tokenizer;
    if (std::filesystem::is_directory(file)) file /= "tokenizer.json";
    return text::Tokenizer::Load(file)->vocab_size();
  }
  if (facts.vocab_size) return *facts.vocab_size;
  fmt::print(
      "Prompts are token ids below {}: the server does not say how many it has; --vocab-size and --tokenizer "
      "do.\n",
      kCommonVocabulary);
  return kCommonVocabulary;
}

// A command's runs, one after the other.
class BenchServe {
 public:
  explicit BenchServe(const BenchServeFlags& flags)
      : flags_(flags), options_(ClientOf(flags)), http_(options_), sink_(flags.output) {
    ask_.extra = ExtraBody(flags.extra_request_body);
    ask_.ignore_eos = !flags.disable_ignore_eos;
    ask_.temperature = flags.temperature;
    ask_.top_p = flags.top_p;
    const bench::ServerFacts facts = bench::LookAtServer(http_);
    ask_.model = flags.model.empty() ? facts.model : flags.model;
    if (ask_.model.empty()) {
      Fail(ErrorKind::kUsage, "{} names no model under /v1/models: say which with --model",
           options_.server.ToString());
    }
    vocab_size_ = VocabularyOf(flags, facts);
  }

  void Run() {
    std::vector<int64_t> concurrencies = flags_.max_concurrency;
    if (concurrencies.empty()) concurrencies.push_back(0);
    // Only what is made up has a length to choose.
    const bool made_up = flags_.dataset.starts_with("random");
    const std::vector<int64_t> lengths = made_up ? flags_.input_len : std::vector<int64_t>{0};
    for (const int64_t length : lengths) {
      for (const int64_t concurrency : concurrencies) RunOne(length, concurrency);
    }
    if (failed_ > 0) {
      fmt::print(stderr, "sluice: {} request{} failed\n", failed_, failed_ == 1 ? "" : "s");
      throw CLI::RuntimeError(1);
    }
  }

 private:
  // Every run has prompts of its own: those of the one before are in the server's cache.
  uint64_t SeedOfRun() const { return flags_.seed + 1000003ULL * static_cast<uint64_t>(runs_); }

  bench::Workload WorkloadOf(int64_t length) {
    bench::Workload workload;
    if (flags_.dataset == "generated-shared-prefix") {
      workload = bench::SharedPrefixes(flags_.shared, vocab_size_, SeedOfRun());
    } else if (flags_.dataset == "mooncake") {
      bench::TraceFile trace = bench::ReadTrace(
          flags_.dataset_path, {flags_.num_prompts, flags_.use_trace_timestamps, flags_.slowdown},
          vocab_size_, SeedOfRun());
      for (const std::string& line : trace.bad_lines) fmt::print(stderr, "{}\n", line);
      if (!trace.bad_lines.empty() && !flags_.allow_bad_lines) {
        Fail(ErrorKind::kUsage,
             "{} has {} malformed line{}: mend them, or pass them over with --allow-bad-lines",
             flags_.dataset_path, trace.bad_lines.size(), trace.bad_lines.size() == 1 ? "" : "s");
      }
      if (trace.requests.empty()) Fail(ErrorKind::kUsage, "{} holds no request", flags_.dataset_path);
      workload = std::move(trace.requests);
    } else {
      workload = bench::RandomIds({flags_.num_prompts, length, flags_.output_len, flags_.range_ratio},
                                  vocab_size_, SeedOfRun());
    }
    if (!flags_.use_trace_timestamps) {
      bench::SpreadAsPoisson(workload, RequestRateOf(flags_), SeedOfRun());
    }
    return workload;
  }

  // Prompts as long as the first, with nothing in common with any that is measured.
  void WarmUp(const bench::LoadRequest& first) {
    const bench::RandomLoad load{flags_.warmup_requests, std::max<int64_t>(first.prompt_tokens, 1),
                                 std::min(first.output_tokens, kWarmupOutput), 1.0};
    for (const bench::LoadRequest& request : bench::RandomIds(load, vocab_size_, ~SeedOfRun())) {
      const bench::RequestRecord record =
          bench::SendCompletion(http_, request, bench::CompletionBody(request, ask_));
      if (!record.ok()) {
        Fail(record.unreachable ? ErrorKind::kNetwork : ErrorKind::kBadRequest,
             "the warm-up request failed: {}", record.error);
      }
    }
  }

  void FlushCache() {
    const client::HttpAnswer answer = http_.Post("/flush_cache", "{}");
    if (!answer.ok()) {
      Fail(ErrorKind::kBadRequest, "--flush-cache: {}/flush_cache answers with status {}",
           options_.server.ToString(), answer.status);
    }
  }

  bench::RunLabels LabelsOf(int64_t length, int64_t concurrency) const {
    bench::RunLabels labels;
    labels.backend = flags_.backend;
    labels.dataset = flags_.dataset;
    labels.request_rate = flags_.use_trace_timestamps ? "trace" : Shown(RequestRateOf(flags_));
    labels.max_concurrency = concurrency;
    labels.input_len = length;
    labels.output_len = length > 0 ? flags_.output_len : 0;
    labels.range_ratio = length > 0 ? flags_.range_ratio : 0.0;
    labels.seed = flags_.seed;
    labels.model = ask_.model;
    labels.cache_report = flags_.cache_report;
    return labels;
  }

  void RunOne(int64_t length, int64_t concurrency) {
    const bench::Workload workload = WorkloadOf(length);
    WarmUp(workload.front());
    if (flags_.flush_cache) FlushCache();
    if (flags_.profile) StartProfile(http_, flags_.profile_output_dir);
    std::vector<std::unique_ptr<client::HttpClient>> clients;
    const size_t slots =
        concurrency > 0 ? std::min(workload.size(), static_cast<size_t>(concurrency)) : workload.size();
    for (size_t slot = 0; slot < slots; ++slot)
      clients.push_back(std::make_unique<client::HttpClient>(options_));
    const auto send = [&](size_t slot, const bench::LoadRequest& request) {
      return bench::SendCompletion(*clients[slot], request, bench::CompletionBody(request, ask_));
    };
    const bool bar = !flags_.disable_tqdm && isatty(fileno(stderr)) == 1;
    const auto on_done = [&](size_t done) {
      if (bar) fmt::print(stderr, "\r{}/{} requests", done, workload.size());
    };
    const bench::LoadOutcome outcome = bench::RunLoad(workload, concurrency, send, on_done);
    if (bar) fmt::print(stderr, "\n");
    ++runs_;
    Tell(LabelsOf(length, concurrency), outcome);
  }

  // Prints and keeps a run; ends the command when the server is gone.
  void Tell(bench::RunLabels labels, const bench::LoadOutcome& outcome) {
    labels.ended_early = outcome.ended_early;
    const bench::ServingMetrics metrics = bench::MetricsOf(outcome.records, outcome.seconds);
    failed_ += metrics.failed;
    fmt::print("\n{}", bench::ResultBlock(labels, metrics));
    for (const bench::RequestRecord& record : outcome.records) {
      if (record.ok()) continue;
      fmt::print("The first that failed: {}\n", record.error);
      break;
    }
    Json result = bench::ServingResult(labels, metrics);
    if (outcome.ended_early.empty()) {
      const Json period = bench::BusyPeriodOf(http_);
      if (!period.is_null()) fmt::print("{}", bench::BusyPeriodText(period));
      result["server_busy_period"] = period;
      if (flags_.profile) AddTimeline(result);
    }
    std::fflush(stdout);
    if (flags_.output_details) bench::AddDetails(outcome.records, result);
    sink_.Add(std::move(result));
    if (!outcome.ended_early.empty()) {
      Fail(ErrorKind::kNetwork, "the run ended early, with {} of its requests answered: {}",
           metrics.completed, outcome.ended_early);
    }
  }

  void AddTimeline(Json& result) {
    const std::vector<std::string> files = StopProfile(http_);
    const std::vector<trace::Lane> lanes = TimelineOf(files);
    if (lanes.empty()) {
      fmt::print("The profile is on the server's host{}\n", files.empty() ? "" : ": " + files.front());
      return;
    }
    fmt::print("{}", bench::TimelineText(lanes));
    fmt::print("  a letter for each step; trace files: {}\n",
               std::filesystem::path(files.front()).parent_path().string());
    result["timeline"] = bench::TimelineJson(lanes);
  }

  const BenchServeFlags& flags_;
  client::ClientOptions options_;
  client::HttpClient http_;
  ResultSink sink_;
  bench::AskOptions ask_;
  int64_t vocab_size_ = 0;
  int64_t runs_ = 0;
  int64_t failed_ = 0;
};

}  // namespace

void AddBenchServeCommand(CLI::App& group_app) {
  auto flags = std::make_shared<BenchServeFlags>();
  CLI::App* command = group_app.add_subcommand("serve", "Load on any OpenAI-compatible server");
  AddBenchServeFlags(*command, *flags);
  command->callback([flags] {
    CheckBenchServeFlags(*flags);
    BenchServe(*flags).Run();
  });
}

}  // namespace sluice::cli
