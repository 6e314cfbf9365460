#include "cli/serve_command.h"

#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/log.h"
#include "checkpoint/load_progress.h"
#include "checkpoint/nextn.h"
#include "checkpoint/tensor_map.h"
#include "cli/chat_flags.h"
#include "cli/describe_job.h"
#include "cli/http_flags.h"
#include "cli/layout_flags.h"
#include "cli/reference_flags.h"
#include "cli/sampling_flags.h"
#include "cli/schedule_flags.h"
#include "cli/serve_until_signal.h"
#include "cli/trace_flags.h"
#include "engine/local_engine.h"
#include "ops/cuda/device.h"
#include "serve/server.h"
#include "text/tokenizer.h"

namespace sluice::cli {
namespace {

struct ServeFlags {
  LayoutFlags layout;
  ReferenceFlags reference;
  HttpFlags http;
  ChatFlags chat;
  SamplingFlags sampling;
  TraceFlags trace;
  std::string host = "127.0.0.1";
  int64_t port = 30000;
  std::string served_model_name;  // empty: the model path
  std::string config;             // read before the line is parsed (option_sources.h)
  std::vector<std::string> help;  // answered before
  bool print_config = false;
};

// Flags that speak of the line itself and are no arguments of the server.
bool OfTheLine(const std::string& name) {
  return name == "help" || name == "config" || name == "print-config";
}

// Every option with its value, as /get_server_info shows it: dashes become underscores, numbers and switches
// keep their type, what was not given and has no default is null.
serve::Json ArgumentsOf(const CLI::App& command) {
  serve::Json arguments = serve::Json::object();
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty() || OfTheLine(option->get_lnames().front())) continue;
    std::string name = option->get_lnames().front();
    if (IsSecret(name)) continue;
    std::replace(name.begin(), name.end(), '-', '_');
    if (option->get_items_expected_max() == 0) {
      arguments[name] = IsOn(*option);
      continue;
    }
    std::vector<std::string> values = option->results();
    if (values.empty()) values.push_back(option->get_default_str());
    serve::Json list = serve::Json::array();
    for (const std::string& value : values) {
      const auto number = serve::Json::parse(value, nullptr, /*allow_exceptions=*/false);
      list.push_back(number.is_number() ? number : value.empty() ? serve::Json(nullptr) : serve::Json(value));
    }
    arguments[name] = option->get_items_expected_max() > 1 ? list : list.back();
  }
  return arguments;
}

// Signals to the server are waited for, not handled: blocked here and in every thread started later.
// SIGQUIT asks for the stall report; one that comes before the server is up is answered then.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGQUIT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// Reads what the ranks of this host will pack into its page cache; layers of other hosts' stages are left
// out. `plain`: progress is text for people.
void Preload(const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint,
             const LayoutFlags& flags, bool plain) {
  const auto& config = checkpoint.config();
  const auto cut = engine::LayerCutOf(settings, config);
  const int ranks = settings.grid.world() / static_cast<int>(flags.nnodes);
  const int first_rank = ranks * static_cast<int>(flags.node_rank);
  const int first_stage = settings.grid.StageOf(first_rank);
  const int last_stage = settings.grid.StageOf(first_rank + ranks - 1);
  std::vector<std::string> names;
  const auto add = [&](const checkpoint::ModelPart& part) {
    for (const checkpoint::TensorSpec& spec : checkpoint::TensorsOf(config, part)) names.push_back(spec.name);
  };
  for (int range = 0; range < settings.grid.layer_ranges(); ++range) {
    const int stage = range % settings.grid.stages;
    if (stage < first_stage || stage > last_stage) continue;
    add({cut[range].begin, cut[range].end, 0, config.n_routed_experts});
  }
  const bool last = last_stage == settings.grid.stages - 1;
  add({0, 0, 0, 0, first_stage == 0, last});
  if (settings.load_nextn && last) {
    for (const auto& spec : checkpoint::PresentNextnTensors(checkpoint, 0, config.n_routed_experts)) {
      names.push_back(spec.name);
    }
  }
  spdlog::info("{} loader threads read {} tensors", settings.loader_threads, names.size());
  const auto log = [](const std::string& line) { spdlog::info("{}", line); };
  auto bar = plain ? std::make_unique<checkpoint::LoadProgressBar>("Loading", stderr)
                   : std::make_unique<checkpoint::LoadProgressBar>("Loading", log);
  checkpoint.Preload(names, settings.loader_threads, bar->callback());
}

std::unique_ptr<text::Tokenizer> TokenizerOf(const std::filesystem::path& model_path,
                                             const checkpoint::Checkpoint& checkpoint) {
  const std::string file = (model_path / "tokenizer.json").string();
  const auto text = checkpoint.TextFile("tokenizer.json");
  if (!text)
    Fail(ErrorKind::kModelFiles, "{}: is not there; a Hugging Face tokenizer.json is expected.", file);
  return text::Tokenizer::Parse(*text, file);
}

void Serve(const ServeFlags& flags, const serve::Json& arguments, const std::vector<std::string>& notes) {
  if (flags.port < 0 || flags.port > 65535) {
    Fail(ErrorKind::kUsage, "--port {} is out of range: use 1 to 65535, or 0 for any free one", flags.port);
  }
  if (flags.served_model_name.find(':') != std::string::npos) {
    Fail(ErrorKind::kUsage,
         "--served-model-name {} has a ':', which is kept for adapters of a model: use a name without one",
         flags.served_model_name);
  }
  CheckChatFlags(flags.chat);
  serve::ServerOptions options;
  options.host = flags.host;
  options.port = static_cast<uint16_t>(flags.port);
  ApplyHttpFlags(flags.http, options);
  SetLogLevels(flags.reference.log_level, flags.reference.log_level_http);
  const std::string log_format = SetLogFormat(flags.reference.log_format);
  const sigset_t signals = BlockSignals();
  const std::filesystem::path directory = flags.layout.model_path;
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint = checkpoint::Checkpoint::Open(directory);
  engine::JobSettings settings = SettingsOf(flags.layout, *checkpoint);
  settings.log_level = flags.reference.log_level;
  settings.log_format = log_format;
  engine::TraceOptions trace;
  ApplyTraceFlags(flags.trace, settings, trace);
  CheckReferenceFlags(flags.reference);
  const SaidDefaults defaults =
      DefaultsOf(flags.sampling, directory.string(), GenerationConfigOf(*checkpoint));
  DescribeJob(flags.layout, flags.reference, settings, *checkpoint, notes);
  spdlog::info("{}", defaults.line);
  ApplyChatFlags(flags.chat, flags.reference.tool_call_parser, flags.reference.reasoning_parser, *checkpoint,
                 directory, options);
  // Before the weights, which may take minutes; the other nodes have no use for it.
  const auto tokenizer = flags.layout.node_rank == 0 ? TokenizerOf(directory, *checkpoint) : nullptr;
  // It listens while the model is loaded, and says that it does.
  serve::Server server(options);
  if (flags.layout.node_rank == 0) {
    server.Start();
    spdlog::info("listening on {}:{} with 503 loading until the ranks are ready; {}", flags.host,
                 server.port(), AccessLine(options));
    if (options.admin_port) spdlog::info("admin listener on 127.0.0.1:{}", server.admin_port());
  }
  Preload(settings, *checkpoint, flags.layout, log_format == "text");
  if (flags.layout.node_rank > 0) {
    spdlog::info(
        "node {} of {} computes and does not serve: what its flags say of HTTP, metrics and parsers is node "
        "0's",
        flags.layout.node_rank, flags.layout.nnodes);
    const int code = engine::RunNode(settings, PlanOf(flags.layout));
    if (code != 0) throw CLI::RuntimeError(code);
    return;
  }

  engine::EngineOptions engine_options = EngineOptionsOf(flags.layout, settings);
  engine_options.decode_log_interval = flags.reference.decode_log_interval;
  engine_options.trace = trace;
  engine_options.keeps_prefixes = !flags.reference.disable_radix_cache;
  engine::LocalEngine engine(settings, engine_options, checkpoint->config(), checkpoint->is_fp8(),
                             StartRanks(flags.layout, settings, checkpoint));
  if (settings.ops == "cuda" && !RanksAreProcesses(flags.layout, settings)) {
    const ops::cuda::MemoryInfo now = ops::cuda::MemoryOf(settings.gpu);
    spdlog::info("the ranks are ready: the driver reports {:.2f} GiB of GPU {} in use",
                 static_cast<double>(now.total_bytes - now.free_bytes) / (1 << 30), settings.gpu);
  }
  serve::ServerInfo info;
  info.served_model_name =
      flags.served_model_name.empty() ? flags.layout.model_path : flags.served_model_name;
  info.model_path = flags.layout.model_path;
  info.version = "0.1.0";
  info.sampling_defaults = defaults.values;
  // Equal requests give equal bits on equal weights, numerics and back end, whatever the layout.
  info.system_fingerprint = fmt::format("sluice-{}-{}-{:08x}", settings.ops, engine.info().numerics,
                                        static_cast<uint32_t>(checkpoint->fingerprint()));
  info.arguments = arguments;
  serve::Metrics metrics(
      {info.served_model_name, flags.reference.collect_tokens_histogram, flags.reference.metrics_compat});
  const serve::Watchers watchers{
      flags.reference.disable_metrics ? nullptr : &metrics, flags.reference.enable_request_time_stats_logging,
      serve::RequestLog(flags.reference.log_requests ? static_cast<int>(flags.reference.log_requests_level)
                                                     : serve::RequestLog::kOff,
                        tokenizer.get())};
  server.Serve(engine, *tokenizer, info, watchers);
  fmt::print("sluice serves {} as \"{}\" at {}://{}:{} (pp {} x cp {}, {}, {} cache tokens)\n",
             flags.layout.model_path, info.served_model_name, options.ssl_certfile.empty() ? "http" : "https",
             flags.host, server.port(), settings.grid.stages, settings.grid.lanes / settings.grid.attn_tp,
             engine.info().numerics, engine.info().max_total_tokens);
  std::fflush(stdout);

  ServeUntilSignal(server, engine, signals, std::chrono::seconds(flags.http.drain_timeout));
  engine.Stop();
}

// Values that the model gives where no flag, variable or file does.
std::map<std::string, std::string> ModelValues(const std::string& model_path) {
  const auto checkpoint = checkpoint::Checkpoint::Open(model_path);
  std::map<std::string, std::string> values = SamplingOfModel(model_path, GenerationConfigOf(*checkpoint));
  values.merge(std::map<std::string, std::string>{
      {"context-length", fmt::to_string(checkpoint->config().max_position_embeddings)},
      {"numerics", checkpoint->is_fp8() ? "fp8" : "exact"},
      {"served-model-name", model_path}});
  return values;
}

}  // namespace

void AddServeCommand(CLI::App& app, const Origins& origins) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = app.add_subcommand("serve", "Serve a checkpoint over the OpenAI API");
  command->option_defaults()->always_capture_default();
  command->set_help_flag();
  const char* group = "Model and server";
  command
      ->add_option("--model-path,--model,MODEL", flags->layout.model_path,
                   "Directory of the checkpoint (Hugging Face layout), or random:PRESET?key=value&... for "
                   "made-up weights without a file; also as a word without a flag")
      ->required()
      ->group(group);
  command
      ->add_option("--served-model-name", flags->served_model_name,
                   "Name in /v1/models and answers; default the model path")
      ->group(group);
  command->add_option("--host", flags->host, "Address to listen on")->group(group);
  command->add_option("--port", flags->port, "Port to listen on; 0 for any free one")->group(group);
  command
      ->add_option("--config", flags->config,
                   "TOML or JSON file whose keys are these flags without their dashes")
      ->group(group);
  command
      ->add_flag("--print-config", flags->print_config,
                 "Print every flag's value and where it comes from, as TOML, and end")
      ->group(group);
  command->add_option("-h,--help", flags->help, "The common flags; a group, all, or =WORD to look for")
      ->expected(0, 1)
      ->group(group);
  AddLayoutFlags(*command, flags->layout);
  AddHttpFlags(*command, flags->http);
  AddReferenceFlags(*command, flags->reference);
  AddChatFlags(*command, flags->chat);
  AddSamplingFlags(*command, flags->sampling);
  AddTraceFlags(*command, flags->trace);
  command->callback([flags, command, &origins] {
    if (flags->print_config) {
      fmt::print("{}", PrintedConfig(*command, origins, ModelValues(flags->layout.model_path)));
      return;
    }
    flags->layout.graph_rows = GraphRows(flags->reference);
    std::vector<std::string> notes = NotesOnFlags(*command, flags->layout.ops == "cuda");
    for (std::string& note : NotesOnVariables(ProcessEnvironment())) notes.push_back(std::move(note));
    Serve(*flags, ArgumentsOf(*command), notes);
  });
}

void ServeDemo(const std::filesystem::path& model, int port) {
  ServeFlags flags;
  flags.layout.model_path = model;
  flags.layout.pp = 2;
  flags.layout.tp = 2;
  flags.layout.enable_cp = true;
  flags.layout.context_length = 8192;
  flags.layout.chunked_prefill_size = 512;
  flags.port = port;
  flags.served_model_name = "demo";
  flags.reference.log_format = "text";  // a demonstration is looked at, wherever its log goes
  Serve(flags, {{"model_path", model.string()}, {"pp_size", 2}, {"tp", 2}, {"port", port}}, {});
}

}  // namespace sluice::cli
