#include "cli/bench_serve_flags.h"

#include <fmt/format.h>

#include <CLI/Option.hpp>
#include <cstdlib>

#include "base/error.h"
#include "cli/human_size.h"
#include "cli/parse_errors.h"

namespace sluice::cli {
namespace {

constexpr int64_t kMost = 100'000'000;

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
  add("--seed", flags.seed, "Equal seeds give equal prompts, lengths and arrivals")->check(Unsigned());
  add("--warmup-requests", flags.warmup_requests, "Requests before each run that are not measured");
  command.add_flag("--flush-cache", flags.flush_cache, "POST /flush_cache before each run")->group(group);
}

}  // namespace

void AddBenchServeFlags(CLI::App& command, BenchServeFlags& flags) {
  const char* group = "Server";
  const auto add = [&](const char* names, auto& value, const char* says) {
    return command.add_option(names, value, says)->group(group)->capture_default_str();
  };
  add("--backend", flags.backend, "openai, or what peers call the same: sglang-oai, vllm, lmdeploy");
  add("--base-url", flags.base_url,
      "http:// or https:// and what stands before /v1; instead of host and port");
  add("--host", flags.host, "Of the server");
  add("--port", flags.port, "Of the server");
  add("--model", flags.model, "As the server calls it; by default the first it names");
  add("--tokenizer", flags.tokenizer, "tokenizer.json, or its directory: says how many token ids there are");
  add("--vocab-size", flags.vocab_size, "How many token ids there are; our server says it itself");
  add("--temperature", flags.temperature, "Of every request");
  add("--top-p", flags.top_p, "Of every request");
  add("--extra-request-body", flags.extra_request_body, "JSON object that goes into every request's body");
  command.add_flag("--disable-ignore-eos", flags.disable_ignore_eos, "Answers may end before their length")
      ->group(group);
  add("--timeout", flags.timeout_seconds,
      "Seconds without a byte after which the server has stopped answering");
  AddLoadFlags(command, flags);
  AddOutputFlags(command, flags.output);
  const char* output = "Output";
  command
      .add_flag("--output-details", flags.output_details, "Every request's figures and text in the result")
      ->group(output);
  command
      .add_flag("--cache-report", flags.cache_report, "How much of the prompts the server had in its cache")
      ->group(output);
  command
      .add_flag("--profile", flags.profile,
                "Profile the ranks over each run, by /start_profile; draws the timeline")
      ->group(output);
  command
      .add_option("--profile-output-dir", flags.profile_output_dir,
                  "Where the server writes the profile, as an absolute path")
      ->group(output);
  command.add_flag("--disable-tqdm", flags.disable_tqdm, "No progress on a terminal")->group(output);
}

void CheckBenchServeFlags(const BenchServeFlags& flags) {
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
  RequestRateOf(flags);
}

double RequestRateOf(const BenchServeFlags& flags) {
  const std::string& text = flags.request_rate;
  char* end = nullptr;
  const double rate = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(rate > 0.0)) {
    Fail(ErrorKind::kUsage, "--request-rate {} is no rate: use requests a second above 0, or inf", text);
  }
  return rate;
}

}  // namespace sluice::cli
