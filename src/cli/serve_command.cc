#include "cli/serve_command.h"

#include <fmt/format.h>
#include <signal.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "checkpoint/load_progress.h"
#include "checkpoint/tensor_map.h"
#include "cli/layout_flags.h"
#include "engine/local_engine.h"
#include "serve/server.h"
#include "text/tokenizer.h"

namespace sluice::cli {
namespace {

struct ServeFlags {
  LayoutFlags layout;
  std::string host = "127.0.0.1";
  int64_t port = 30000;
  std::string served_model_name;  // empty: the model path
};

// Every option with its value, as /get_server_info shows it: dashes become underscores, numbers and switches
// keep their type.
serve::Json ArgumentsOf(const CLI::App& command) {
  serve::Json arguments = serve::Json::object();
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty() || option->get_lnames().front() == "help") continue;
    std::string name = option->get_lnames().front();
    std::replace(name.begin(), name.end(), '-', '_');
    if (option->get_items_expected_max() == 0) {
      arguments[name] = option->count() > 0;
      continue;
    }
    const std::string value = option->count() > 0 ? option->results().back() : option->get_default_str();
    const auto number = serve::Json::parse(value, nullptr, /*allow_exceptions=*/false);
    arguments[name] = number.is_number() ? number : serve::Json(value);
  }
  return arguments;
}

// Signals that end the server are waited for, not handled: blocked here and in every thread started later.
sigset_t BlockEndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

void Preload(const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const checkpoint::TensorSpec& spec :
       checkpoint::TensorsOf(checkpoint.config(), checkpoint::WholeModel(checkpoint.config()))) {
    names.push_back(spec.name);
  }
  checkpoint::LoadProgressBar bar("Loading", stderr);
  checkpoint.Preload(names, settings.loader_threads, bar.callback());
}

void Serve(const ServeFlags& flags, const serve::Json& arguments) {
  if (flags.port < 0 || flags.port > 65535) {
    Fail(ErrorKind::kUsage, "--port {} is out of range: use 1 to 65535, or 0 for any free one", flags.port);
  }
  const sigset_t end_signals = BlockEndSignals();
  const std::filesystem::path directory = flags.layout.model_path;
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint = checkpoint::Checkpoint::Open(directory);
  const engine::JobSettings settings = SettingsOf(flags.layout, *checkpoint);
  if (flags.layout.node_rank > 0) {
    const int code = engine::RunNode(settings, PlanOf(flags.layout));
    if (code != 0) throw CLI::RuntimeError(code);
    return;
  }
  const auto tokenizer = text::Tokenizer::Load(directory / "tokenizer.json");
  if (flags.layout.ranks != "processes" && flags.layout.nnodes == 1) Preload(settings, *checkpoint);

  engine::LocalEngine engine(
      settings,
      {flags.layout.chunked_prefill_size, flags.layout.max_running_requests, flags.layout.context_length},
      checkpoint->config(), checkpoint->is_fp8(), StartRanks(flags.layout, settings, checkpoint));
  serve::ServerOptions options;
  options.host = flags.host;
  options.port = static_cast<uint16_t>(flags.port);
  serve::ServerInfo info;
  info.served_model_name =
      flags.served_model_name.empty() ? flags.layout.model_path : flags.served_model_name;
  info.model_path = flags.layout.model_path;
  info.version = "0.1.0";
  // Equal requests give equal bits on equal weights, numerics and back end, whatever the layout.
  info.system_fingerprint = fmt::format("sluice-{}-{}-{:08x}", settings.ops, engine.info().numerics,
                                        static_cast<uint32_t>(checkpoint->fingerprint()));
  info.arguments = arguments;
  serve::Server server(options, engine, *tokenizer, info);
  server.Start();
  fmt::print("sluice serves {} as \"{}\" at http://{}:{} (pp {} x cp {}, {}, {} cache tokens)\n",
             flags.layout.model_path, info.served_model_name, flags.host, server.port(), settings.grid.stages,
             settings.grid.lanes / settings.grid.attn_tp, engine.info().numerics,
             engine.info().max_total_tokens);
  std::fflush(stdout);

  constexpr timespec kLook{0, 100'000'000};  // how soon the loss of a rank is noticed here
  while (engine.Verdict().empty()) {
    if (sigtimedwait(&end_signals, nullptr, &kLook) > 0) {
      server.Stop();
      engine.Stop();
      return;
    }
  }
  const std::string verdict = engine.Verdict();
  server.Stop();
  engine.Stop();
  throw Error(ErrorKind::kRankLost, verdict);
}

}  // namespace

void AddServeCommand(CLI::App& app) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = app.add_subcommand("serve", "Serve a checkpoint over the OpenAI API");
  command->option_defaults()->always_capture_default();
  AddLayoutFlags(*command, flags->layout);
  command->add_option("--host", flags->host, "Address to listen on");
  command->add_option("--port", flags->port, "Port to listen on; 0 for any free one");
  command->add_option("--served-model-name", flags->served_model_name,
                      "Name in /v1/models and answers; default the model path");
  command->callback([flags, command] { Serve(*flags, ArgumentsOf(*command)); });
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
  Serve(flags, {{"model_path", model.string()}, {"pp_size", 2}, {"tp", 2}, {"port", port}});
}

}  // namespace sluice::cli
