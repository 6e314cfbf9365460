#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cli/option_sources.h"

namespace sluice::cli {

// The flags of the reference system's launch lines beside those of layout, memory and schedule. An empty
// text, an empty list and a false switch mean "not given".
struct ReferenceFlags {
  bool trust_remote_code = false;
  std::string attention_backend;
  std::string nsa_prefill_backend;
  std::string nsa_decode_backend;
  int64_t page_size = 64;
  bool disable_radix_cache = false;
  std::vector<int64_t> cuda_graph_bs;
  std::optional<int64_t> cuda_graph_max_bs;
  bool disable_cuda_graph = false;
  std::optional<int64_t> num_reserved_decode_tokens;
  std::string tool_call_parser = "auto";
  std::string reasoning_parser = "auto";
  int64_t moe_dp_size = 1;
  bool enable_dynamic_chunking = false;
  std::string speculative_algorithm;
  std::optional<int64_t> speculative_num_steps;
  std::optional<int64_t> speculative_eagle_topk;
  std::optional<int64_t> speculative_num_draft_tokens;
  std::string speculative_draft_model_path;
  std::string speculative_config;
  bool enable_metrics = false;
  bool disable_metrics = false;
  std::string metrics_compat;
  bool collect_tokens_histogram = false;
  bool enable_cache_report = false;
  bool enable_request_time_stats_logging = false;
  int64_t decode_log_interval = 40;
  bool log_requests = false;
  int64_t log_requests_level = 0;
  std::string log_level = "info";
  std::string log_level_http;
  std::string log_format = "auto";
};

// What a flag does on this program's back end.
enum class FlagEffect {
  kWorks,     // changes what the program does
  kFixed,     // says what is so anyway: no other value is taken
  kNoEffect,  // accepted, and nothing comes of it on this back end
  kOnGpu,     // works on GPU ranks; accepted by CPU ranks, of which nothing comes
  kNotBuilt,  // refused when it is given: what it asks for is not built
};

// One flag: everything the command line, the start-up log and docs/launch-flags.md say about it.
struct FlagRow {
  using Field = std::variant<bool ReferenceFlags::*, int64_t ReferenceFlags::*,
                             std::optional<int64_t> ReferenceFlags::*, std::string ReferenceFlags::*,
                             std::vector<int64_t> ReferenceFlags::*>;
  const char* name;  // with the two dashes
  Field field;
  FlagEffect effect = FlagEffect::kWorks;
  const char* here = "";               // what it does here, a clause
  std::vector<std::string> choices{};  // the values of a text; empty: any
  const char* why_only_these = "";     // for a text that is not among them, a clause; of kNotBuilt what to do
  int64_t least = 0;                   // of a number, or of each in a list
  int64_t most = 0;
  const char* group = "Kernels, caches and parsers";  // of --help
};

// In the order of the documentation.
const std::vector<FlagRow>& ReferenceFlagTable();

void AddReferenceFlags(CLI::App& app, ReferenceFlags& flags);

// Throws Error(kUsage) with a sentence that names the flag and what would work, for a value outside its row
// and for flags that contradict each other.
void CheckReferenceFlags(const ReferenceFlags& flags);

// The numbers of rows for which decode steps are recorded as CUDA graphs: those of --cuda-graph-bs, or up to
// --cuda-graph-max-bs all up to 32 and then every eighth; none with --disable-cuda-graph.
std::vector<int64_t> GraphRows(const ReferenceFlags& flags);

// One line for each flag given on the command line of `app` that changes nothing on these ranks, saying why:
// "--page-size 64: pages are always of 64 tokens".
std::vector<std::string> NotesOnFlags(const CLI::App& app, bool gpu);

// One line for each variable of the reference's launch scripts that is set and changes nothing here.
std::vector<std::string> NotesOnVariables(const Environment& environment);

// The first cells of a row as docs/launch-flags.md has them: "| `--page-size` | 64 |", and the meaning.
struct DocumentedFlag {
  std::string begin;
  std::string meaning;
};
DocumentedFlag Documented(const FlagRow& row);

}  // namespace sluice::cli
