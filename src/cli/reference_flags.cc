#include "cli/reference_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/error.h"

namespace sluice::cli {
namespace {

using Flags = ReferenceFlags;

constexpr int64_t kMostBatch = 65'536;
constexpr int64_t kMostTokens = 1 << 30;

const std::vector<std::string> kKernels{"flashmla_sparse", "flashmla_kv", "flashmla_auto", "fa3",
                                        "tilelang",        "aiter",       "trtllm"};
const std::vector<std::string> kLevels{"trace", "debug", "info", "warning", "error", "critical", "off"};
constexpr const char* kLogs = "Logs and metrics";
constexpr const char* kKernelHere =
    "chooses the sparse attention of this back end; CPU ranks have one, for prefill and decode alike, and "
    "the "
    "log names it";
constexpr const char* kNoDrafts = "refused: nothing is drafted here";
constexpr const char* kNoDraftsRemedy =
    "leave it out, or use --load-mtp alone, which loads the multi-token-prediction layer and drafts nothing";
constexpr int64_t kGraphMaxRows = 32;  // of --cuda-graph-max-bs, and the last before steps of eight

FlagRow Switch(const char* name, bool Flags::*field, FlagEffect effect, const char* here) {
  return {name, field, effect, here};
}

FlagRow Choice(const char* name, std::string Flags::*field, std::vector<std::string> choices,
               FlagEffect effect, const char* here, const char* why_only_these = "") {
  return {name, field, effect, here, std::move(choices), why_only_these};
}

// Of speculative decoding.
FlagRow Draft(const char* name, FlagRow::Field field) {
  return {name, field, FlagEffect::kNotBuilt, kNoDrafts, {}, kNoDraftsRemedy, 1, kMostTokens};
}

FlagRow Number(const char* name, FlagRow::Field field, int64_t least, int64_t most, FlagEffect effect,
               const char* here) {
  return {name, field, effect, here, {}, "", least, most};
}

FlagRow Seen(FlagRow row) {
  row.group = kLogs;
  return row;
}

std::vector<FlagRow> MakeTable() {
  using enum FlagEffect;
  using F = Flags;
  return {
      Switch("--trust-remote-code", &F::trust_remote_code, kNoEffect,
             "nothing in a checkpoint is ever run as code: configuration and tokenizer are read here"),
      Choice("--attention-backend", &F::attention_backend, {"nsa"}, kNoEffect,
             "the model's sparse attention, the only one there is", "other attentions are not built"),
      Choice("--nsa-prefill-backend", &F::nsa_prefill_backend, kKernels, kWorks, kKernelHere),
      Choice("--nsa-decode-backend", &F::nsa_decode_backend, kKernels, kWorks, kKernelHere),
      Number("--page-size", &F::page_size, 64, 64, kFixed, "pages are always of 64 tokens"),
      Switch("--disable-radix-cache", &F::disable_radix_cache, kWorks,
             "no page is kept for later prompts that begin alike: every prompt is computed whole, and "
             "`cached_tokens` is 0"),
      Number("--cuda-graph-bs", &F::cuda_graph_bs, 1, kMostBatch, kOnGpu,
             "CPU ranks have no graphs; with `--ops cuda` the numbers of rows for which a decode step is "
             "recorded as a CUDA graph at start, and all other steps are enqueued op by op"),
      Number("--cuda-graph-max-bs", &F::cuda_graph_max_bs, 1, kMostBatch, kWorks,
             "the most that `--cuda-graph-bs` may say; without that flag, with `--ops cuda`, graphs are "
             "recorded "
             "for all numbers of rows up to it and 32, and beyond 32 for every eighth"),
      Switch("--disable-cuda-graph", &F::disable_cuda_graph, kOnGpu,
             "CPU ranks have no graphs; with `--ops cuda` none is recorded"),
      Number("--num-reserved-decode-tokens", &F::num_reserved_decode_tokens, 1, kMostTokens, kNoEffect,
             "speaks to a decode server that receives prompts from another one; here answers take pages as "
             "they grow"),
      Choice("--tool-call-parser", &F::tool_call_parser, {"auto", "deepseekv32", "glm47", "none"}, kWorks,
             "how tool calls are read from answers; auto: as the model's architecture writes them; none: "
             "requests with tools are refused"),
      Choice("--reasoning-parser", &F::reasoning_parser, {"auto", "deepseek-v3", "glm45", "none"}, kWorks,
             "how the part before </think> gets into reasoning_content; auto: by the model's architecture; "
             "none: it is content"),
      Number("--moe-dp-size", &F::moe_dp_size, 1, 1, kFixed,
             "experts are not copied: each has one owner in a stage"),
      {"--enable-dynamic-chunking",
       &F::enable_dynamic_chunking,
       kNotBuilt,
       "refused: chunks all have the rows of --chunked-prefill-size",
       {},
       "leave it out"},
      Draft("--speculative-algorithm", &F::speculative_algorithm),
      Draft("--speculative-num-steps", &F::speculative_num_steps),
      Draft("--speculative-eagle-topk", &F::speculative_eagle_topk),
      Draft("--speculative-num-draft-tokens", &F::speculative_num_draft_tokens),
      Draft("--speculative-draft-model-path", &F::speculative_draft_model_path),
      Draft("--speculative-config", &F::speculative_config),
      Seen(Switch("--enable-metrics", &F::enable_metrics, kFixed,
                  "`GET /metrics` answers in Prometheus' text format, with or without this flag")),
      Seen(Switch("--disable-metrics", &F::disable_metrics, kWorks, "there is no `GET /metrics`")),
      Seen(Choice(
          "--metrics-compat", &F::metrics_compat, {"sglang", "vllm"}, kWorks,
          "series of `/metrics` once more under the names that system has for them, for dashboards and "
          "routers that know those")),
      Seen(Switch("--collect-tokens-histogram", &F::collect_tokens_histogram, kWorks,
                  "histograms of prompt and answer lengths in `/metrics`")),
      Switch("--enable-cache-report", &F::enable_cache_report, kFixed,
             "usage always has prompt_tokens_details.cached_tokens"),
      Seen(Number("--decode-log-interval", &F::decode_log_interval, 1, kMostTokens, kWorks,
                  "a line in the log for every so many steps with decode rows")),
      Seen(Switch("--enable-request-time-stats-logging", &F::enable_request_time_stats_logging, kWorks,
                  "a line in the log for every request that ends: queue, prefill, decode, whole time")),
      Seen(Switch("--log-requests", &F::log_requests, kWorks,
                  "a line in the log for every request that comes and every one that ends, with its "
                  "x-request-id")),
      Seen(Number(
          "--log-requests-level", &F::log_requests_level, 0, 3, kWorks,
          "what these lines have: 0 sizes, 1 also sampling parameters, 2 also the first 2,048 bytes of "
          "prompt and answer, escaped, 3 all of them; needs `--log-requests`")),
      Seen(Choice("--log-level", &F::log_level, kLevels, kWorks,
                  "what goes to standard error, of the server and of its rank processes")),
      Seen(Choice("--log-level-http", &F::log_level_http, kLevels, kWorks,
                  "the same for the line per HTTP request, which is of level info; not given: as "
                  "`--log-level`")),
      Seen(Choice("--log-format", &F::log_format, {"auto", "text", "json"}, kWorks,
                  "lines for people or one JSON object each; auto: text on a terminal, else JSON")),
  };
}

// "A, B or C"
std::string Choices(const std::vector<std::string>& choices) {
  if (choices.size() == 1) return choices.front();
  const std::span all(choices);
  return fmt::format("{} or {}", fmt::join(all.first(all.size() - 1), ", "), choices.back());
}

void CheckText(const FlagRow& row, const std::string& value) {
  if (value.empty() || std::ranges::find(row.choices, value) != row.choices.end()) return;
  const std::string why = *row.why_only_these == '\0' ? "" : fmt::format("; {}", row.why_only_these);
  Fail(ErrorKind::kUsage, "{} {} is not taken here: use {}{}", row.name, value, Choices(row.choices), why);
}

// "64" or "1 to 128"
std::string Range(const FlagRow& row) {
  return row.least == row.most ? fmt::to_string(row.least) : fmt::format("{} to {}", row.least, row.most);
}

void CheckNumber(const FlagRow& row, int64_t value) {
  if (value >= row.least && value <= row.most) return;
  const std::string why = row.effect == FlagEffect::kFixed ? fmt::format("; {}", row.here) : "";
  Fail(ErrorKind::kUsage, "{} {} is out of range: use {}{}", row.name, value, Range(row), why);
}

// The value of a flag, as it follows its name in a sentence: " 3", "" for a switch; nullopt if not given.
std::optional<std::string> Given(const FlagRow& row, const Flags& flags) {
  if (const auto* on = std::get_if<bool Flags::*>(&row.field)) {
    return flags.**on ? std::optional<std::string>("") : std::nullopt;
  }
  if (const auto* text = std::get_if<std::string Flags::*>(&row.field)) {
    return (flags.**text).empty() ? std::nullopt : std::optional(" " + flags.**text);
  }
  const auto* number = std::get_if<std::optional<int64_t> Flags::*>(&row.field);
  if (number == nullptr || !(flags.**number).has_value()) return std::nullopt;
  return fmt::format(" {}", *(flags.**number));
}

void CheckRow(const FlagRow& row, const Flags& flags) {
  if (row.effect == FlagEffect::kNotBuilt) {
    constexpr std::string_view kRefused = "refused: ";
    const auto given = Given(row, flags);
    if (!given.has_value()) return;
    Fail(ErrorKind::kUsage, "{}{} is not built: {}; {}", row.name, *given,
         std::string_view(row.here).substr(kRefused.size()), row.why_only_these);
  }
  if (const auto* text = std::get_if<std::string Flags::*>(&row.field)) {
    CheckText(row, flags.**text);
  } else if (const auto* number = std::get_if<int64_t Flags::*>(&row.field)) {
    CheckNumber(row, flags.**number);
  } else if (const auto* optional = std::get_if<std::optional<int64_t> Flags::*>(&row.field)) {
    if ((flags.**optional).has_value()) CheckNumber(row, *(flags.**optional));
  } else if (const auto* list = std::get_if<std::vector<int64_t> Flags::*>(&row.field)) {
    for (const int64_t value : flags.**list) CheckNumber(row, value);
  }
}

}  // namespace

const std::vector<FlagRow>& ReferenceFlagTable() {
  static const std::vector<FlagRow> table = MakeTable();
  return table;
}

void AddReferenceFlags(CLI::App& app, Flags& flags) {
  for (const FlagRow& row : ReferenceFlagTable()) {
    CLI::Option* option = nullptr;
    if (const auto* on = std::get_if<bool Flags::*>(&row.field)) {
      option = app.add_flag(row.name, flags.**on, row.here);
    } else {
      std::visit([&](auto field) { option = app.add_option(row.name, flags.*field, row.here); }, row.field);
    }
    option->group(row.group);
  }
}

void CheckReferenceFlags(const Flags& flags) {
  for (const FlagRow& row : ReferenceFlagTable()) CheckRow(row, flags);
  const auto largest = std::ranges::max_element(flags.cuda_graph_bs);
  if (largest != flags.cuda_graph_bs.end() && flags.cuda_graph_max_bs.has_value() &&
      *largest > *flags.cuda_graph_max_bs) {
    Fail(ErrorKind::kUsage, "--cuda-graph-bs {} is more than --cuda-graph-max-bs {}: leave one of them out",
         *largest, *flags.cuda_graph_max_bs);
  }
  if (flags.disable_cuda_graph && !flags.cuda_graph_bs.empty()) {
    Fail(ErrorKind::kUsage,
         "--disable-cuda-graph and --cuda-graph-bs do not go together: leave one of them out");
  }
  const auto needs_metrics = [&](bool given, const char* flag) {
    if (given && flags.disable_metrics) {
      Fail(ErrorKind::kUsage, "{} and --disable-metrics do not go together: leave one of them out", flag);
    }
  };
  needs_metrics(flags.enable_metrics, "--enable-metrics");
  needs_metrics(flags.collect_tokens_histogram, "--collect-tokens-histogram");
  needs_metrics(!flags.metrics_compat.empty(), "--metrics-compat");
  if (flags.log_requests_level > 0 && !flags.log_requests) {
    Fail(ErrorKind::kUsage, "--log-requests-level {} has no lines to add to: give --log-requests as well",
         flags.log_requests_level);
  }
}

std::vector<int64_t> GraphRows(const Flags& flags) {
  if (flags.disable_cuda_graph) return {};
  if (!flags.cuda_graph_bs.empty()) return flags.cuda_graph_bs;
  std::vector<int64_t> rows;
  const int64_t most = std::min(flags.cuda_graph_max_bs.value_or(kGraphMaxRows), kMostBatch);
  for (int64_t size = 1; size <= most; size += size < kGraphMaxRows ? 1 : 8) rows.push_back(size);
  return rows;
}

std::vector<std::string> NotesOnFlags(const CLI::App& app, bool gpu) {
  std::vector<std::string> notes;
  for (const FlagRow& row : ReferenceFlagTable()) {
    if (row.effect == FlagEffect::kWorks || (gpu && row.effect == FlagEffect::kOnGpu)) continue;
    const CLI::Option* option = app.get_option(row.name);
    if (option->count() == 0) continue;
    const bool is_switch = std::holds_alternative<bool Flags::*>(row.field);
    const std::string value = is_switch ? "" : fmt::format(" {}", fmt::join(option->results(), " "));
    notes.push_back(fmt::format("{}{}: {}", row.name, value, row.here));
  }
  return notes;
}

std::vector<std::string> NotesOnVariables(const Environment& environment) {
  constexpr std::array kVariables{
      std::pair{"SGLANG_DYNAMIC_CHUNKING_SMOOTH_FACTOR",
                "chunks all have the rows of --chunked-prefill-size"},
      std::pair{"SGLANG_NSA_FUSE_TOPK", "the selection is one op here, whatever it says"}};
  std::vector<std::string> notes;
  for (const auto& [name, why] : kVariables) {
    const auto at = environment.find(name);
    if (at != environment.end()) notes.push_back(fmt::format("{}={}: {}", name, at->second, why));
  }
  return notes;
}

DocumentedFlag Documented(const FlagRow& row) {
  std::string values = "switch";
  if (!row.choices.empty()) {
    values = fmt::format("`{}`", fmt::join(row.choices, "`, `"));
  } else if (std::holds_alternative<std::string Flags::*>(row.field)) {
    values = "text";
  } else if (!std::holds_alternative<bool Flags::*>(row.field)) {
    const bool list = std::holds_alternative<std::vector<int64_t> Flags::*>(row.field);
    values = (list ? "a list of " : "") + Range(row);
  }
  return {fmt::format("| `{}` | {} | ", row.name, values), fmt::format(" | {} | ", row.here)};
}

}  // namespace sluice::cli
