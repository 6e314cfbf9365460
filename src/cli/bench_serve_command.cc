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
#include "cli/human_size.h"
#include "text/tokenizer.h"

namespace sluice::cli {
namespace {

using bench::Json;

// Ids below this stand for a token in every tokenizer of a present-day language model.
constexpr int64_t kCommonVocabulary = 32000;
constexpr int64_t kMost = 100'000'000;
constexpr int64_t kWarmupOutput = 32;

struct BenchServeFlags {
  std::string backend = "openai";
  std::string base_url;
  std::string host = "127.0.0.1";
  int64_t port = 30000;
  std::string model;
  std::string tokenizer;
  int64_t vocab_size = 0;  // 0: not given
  std::string dataset = "random-ids";
  std::string dataset_path;
  int64_t num_prompts = 1000;
  std::vector<int64_t> input_len{1024};
  int64_t output_len = 1024;
  double range_ratio = 0.0;
  bench::SharedPrefixLoad shared;
  bool use_trace_timestamps = false;
  double slowdown = 1.0;
  bool allow_bad_lines = false;
  std::string request_rate = "inf";
  std::vector<int64_t> max_concurrency;
  uint64_t seed = 42;
  bool disable_ignore_eos = false;
  double temperature = 0.0;
  double top_p = 1.0;
  std::string extra_request_body;  // JSON
  int64_t warmup_requests = 1;
  bool flush_cache = false;
  double timeout_seconds = 600.0;
  bool cache_report = false;
  bool output_details = false;
  bool disable_tqdm = false;
  bool profile = false;
  std::string profile_output_dir;
  OutputFlags output;
};

double RateOf(const std::string& text) {
  char* end = nullptr;
  const double rate = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(rate > 0.0)) {
    Fail(ErrorKind::kUsage, "--request-rate {} is no rate: use requests a second above 0, or inf", text);
  }
  return rate;
}

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

void Check(const BenchServeFlags& flags) {
  const auto one_of = [](const char* flag, const std::string& value, const std::vector<std::string>& known) {
    for (const std::string& name : known) {
      if (value == name) return;
    }
    std::string names;
    for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
    Fail(ErrorKind::kUsage, "{} {} is not known: use one of {}", flag, value, names);
  };
  one_of("--backend", flags.backend, {"openai", "sglang-oai", "vllm", "lmdeploy"});
  one_of("--dataset-name", flags.dataset, {"random-ids", "random", "generated-shared-prefix", "mooncake"});
  CheckRange("--port", {flags.port}, 1, 65535);
  CheckRange("--vocab-size", {flags.vocab_size}, 0, 1 << 30);
  CheckRange("--num-prompts", {flags.num_prompts}, 1, kMost);
  CheckRange("--random-input-len", flags.input_len, 1, kMost);
  CheckRange("--random-output-len", {flags.output_len}, 1, kMost);
  CheckRange("--max-concurrency", flags.max_concurrency, 1, 10000);
  CheckRange("--warmup-requests", {flags.warmup_requests}, 0, kMost);
  CheckRange("--gsp-num-groups", {flags.shared.groups}, 1, kMost);
  CheckRange("--gsp-prompts-per-group", {flags.shared.prompts_per_group}, 1, kMost);
  CheckRange("--gsp-system-prompt-len", {flags.shared.prefix_len}, 1, kMost);
  CheckRange("--gsp-question-len", {flags.shared.question_len}, 1, kMost);
  CheckRange("--gsp-output-len", {flags.shared.output_len}, 1, kMost);
  if (!(flags.range_ratio >= 0.0 && flags.range_ratio <= 1.0)) {
    Fail(ErrorKind::kUsage, "--random-range-ratio {} is out of range: use 0 to 1", flags.range_ratio);
  }
  if (!(flags.timeout_seconds > 0.0 && flags.timeout_seconds < 1e7)) {
    Fail(ErrorKind::kUsage, "--timeout {} is out of range: use seconds above 0, below 10000000",
         flags.timeout_seconds);
  }
  if (!(flags.slowdown > 0.0 && flags.slowdown < 1e9)) {
    Fail(ErrorKind::kUsage, "--mooncake-slowdown-factor {} is out of range: use a factor above 0",
         flags.slowdown);
  }
  if ((flags.dataset == "mooncake") == flags.dataset_path.empty()) {
    Fail(ErrorKind::kUsage,
         "--dataset-path and --dataset-name mooncake belong together: nothing is downloaded");
  }
  if (flags.profile != !flags.profile_output_dir.empty()) {
    Fail(ErrorKind::kUsage,
         "--profile and --profile-output-dir belong together: the directory is the server's");
  }
  if (flags.use_trace_timestamps && flags.dataset != "mooncake") {
    Fail(ErrorKind::kUsage,
         "--use-trace-timestamps needs a trace: --dataset-name mooncake --dataset-path FILE");
  }
  RateOf(flags.request_rate);
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
      bench::SpreadAsPoisson(workload, RateOf(flags_.request_rate), SeedOfRun());
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
    labels.request_rate = flags_.use_trace_timestamps ? "trace" : Shown(RateOf(flags_.request_rate));
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

void AddLoadFlags(CLI::App& command, BenchServeFlags& flags) {
  const char* group = "Load";
  const auto add = [&](const char* names, auto& value, const char* says) {
    return command.add_option(names, value, says)->group(group)->capture_default_str();
  };
  add("--dataset-name", flags.dataset,
      "random-ids (also: random): token ids; generated-shared-prefix; mooncake: a trace file");
  add("--dataset-path", flags.dataset_path, "Trace file: JSON lines (docs/benchmarking.md)");
  add("--num-prompts", flags.num_prompts, "Requests of random-ids; the first so many of a trace");
  add("--random-input-len,--random-input", flags.input_len, "Tokens of a prompt; a list makes a run for each")
      ->delimiter(',')
      ->transform(HumanCount());
  add("--random-output-len,--random-output", flags.output_len, "Tokens to generate")->transform(HumanCount());
  add("--random-range-ratio", flags.range_ratio,
      "Lengths are uniform from this share of the length up; 1: all equal");
  add("--gsp-num-groups", flags.shared.groups, "Groups of prompts that begin alike");
  add("--gsp-prompts-per-group", flags.shared.prompts_per_group, "Prompts of a group");
  add("--gsp-system-prompt-len", flags.shared.prefix_len, "Tokens that a group shares");
  add("--gsp-question-len", flags.shared.question_len, "Tokens of a prompt after those");
  add("--gsp-output-len", flags.shared.output_len, "Tokens to generate");
  command.add_flag("--gsp-ordered", flags.shared.ordered, "Group after group, not shuffled")->group(group);
  command.add_flag("--use-trace-timestamps", flags.use_trace_timestamps, "Send when the trace says")
      ->group(group);
  add("--mooncake-slowdown-factor", flags.slowdown, "Stretches the trace's times");
  command.add_flag("--allow-bad-lines", flags.allow_bad_lines, "Go on without a trace's malformed lines")
      ->group(group);
  add("--request-rate", flags.request_rate, "Requests a second, as a Poisson process; inf: all at once");
  add("--max-concurrency", flags.max_concurrency, "Requests at a time; a list makes a run for each")
      ->delimiter(',');
  add("--seed", flags.seed, "Equal seeds give equal prompts, lengths and arrivals");
  add("--warmup-requests", flags.warmup_requests, "Requests before each run that are not measured");
  command.add_flag("--flush-cache", flags.flush_cache, "POST /flush_cache before each run")->group(group);
}

}  // namespace

void AddBenchServeCommand(CLI::App& group_app) {
  auto flags = std::make_shared<BenchServeFlags>();
  CLI::App* command = group_app.add_subcommand("serve", "Load on any OpenAI-compatible server");
  const char* group = "Server";
  const auto add = [&](const char* names, auto& value, const char* says) {
    return command->add_option(names, value, says)->group(group)->capture_default_str();
  };
  add("--backend", flags->backend, "openai, or what peers call the same: sglang-oai, vllm, lmdeploy");
  add("--base-url", flags->base_url,
      "http:// or https:// and what stands before /v1; instead of host and port");
  add("--host", flags->host, "Of the server");
  add("--port", flags->port, "Of the server");
  add("--model", flags->model, "As the server calls it; by default the first it names");
  add("--tokenizer", flags->tokenizer, "tokenizer.json, or its directory: says how many token ids there are");
  add("--vocab-size", flags->vocab_size, "How many token ids there are; our server says it itself");
  add("--temperature", flags->temperature, "Of every request");
  add("--top-p", flags->top_p, "Of every request");
  add("--extra-request-body", flags->extra_request_body, "JSON object that goes into every request's body");
  command->add_flag("--disable-ignore-eos", flags->disable_ignore_eos, "Answers may end before their length")
      ->group(group);
  add("--timeout", flags->timeout_seconds,
      "Seconds without a byte after which the server has stopped answering");
  AddLoadFlags(*command, *flags);
  AddOutputFlags(*command, flags->output);
  const char* output = "Output";
  command
      ->add_flag("--output-details", flags->output_details, "Every request's figures and text in the result")
      ->group(output);
  command
      ->add_flag("--cache-report", flags->cache_report, "How much of the prompts the server had in its cache")
      ->group(output);
  command
      ->add_flag("--profile", flags->profile,
                 "Profile the ranks over each run, by /start_profile; draws the timeline")
      ->group(output);
  command
      ->add_option("--profile-output-dir", flags->profile_output_dir,
                   "Where the server writes the profile, as an absolute path")
      ->group(output);
  command->add_flag("--disable-tqdm", flags->disable_tqdm, "No progress on a terminal")->group(output);
  command->callback([flags] {
    Check(*flags);
    BenchServe(*flags).Run();
  });
}

}  // namespace sluice::cli
