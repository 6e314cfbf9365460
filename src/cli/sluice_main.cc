#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "base/log.h"
#include "cli/bench_command.h"
#include "cli/check_command.h"
#include "cli/checkpoint_command.h"
#include "cli/completion_command.h"
#include "cli/demo_command.h"
#include "cli/doctor_command.h"
#include "cli/eval_command.h"
#include "cli/exit_codes.h"
#include "cli/help_pages.h"
#include "base/nearest.h"
#include "cli/option_sources.h"
#include "cli/rank_command.h"
#include "cli/serve_command.h"
#include "cli/trace_command.h"
#include "engine/build_id.h"

namespace sluice::cli {
namespace {

// A first word that is no subcommand, with the one that was probably meant.
void CheckSubcommand(const CLI::App& app, const std::vector<std::string>& words) {
  if (words.empty() || words.front().starts_with("-")) return;
  std::vector<std::string> names;
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (child->get_name() == words.front()) return;
    if (!child->get_group().empty()) names.push_back(child->get_name());
  }
  const std::string meant = Nearest(words.front(), names);
  Fail(ErrorKind::kUsage, "there is no command {}{}", words.front(),
       meant.empty() ? "; `sluice --help` lists them" : ": did you mean " + meant + "?");
}

// Parses and runs the line. What a command with a --config takes from elsewhere is completed first, so that
// the parser sees one line and every value is checked alike.
int Run(CLI::App& app, std::vector<std::string> words, Origins& origins) {
  CheckSubcommand(app, words);
  const Addressed addressed = CommandOf(app, words);
  std::vector<std::string> names(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(addressed.names));
  words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(addressed.names));
  if (addressed.command->get_option_no_throw("--config") != nullptr) {
    if (const auto topic = HelpTopic(words)) {
      fmt::print("{}", HelpPage(*addressed.command, *topic));
      return 0;
    }
    CheckFlagNames(*addressed.command, words);
    origins = CompleteWords(*addressed.command, ProcessEnvironment(), words);
    for (const std::string& stray : StrayVariables(*addressed.command, ProcessEnvironment())) {
      spdlog::warn("{}", stray);
    }
  } else {
    CheckFlagNames(*addressed.command, words);
  }
  words.insert(words.begin(), names.begin(), names.end());
  std::ranges::reverse(words);  // as CLI11 takes them
  app.parse(std::move(words));
  return 0;
}

}  // namespace
}  // namespace sluice::cli

int main(int argc, char** argv) {
  CLI::App app("sluice: DeepSeek-V3.2-class models, long prompts answered soon", "sluice");
  app.require_subcommand(1);
  app.set_version_flag("--version", sluice::engine::BuildId());
  sluice::cli::Origins origins;
  sluice::cli::AddServeCommand(app, origins);
  sluice::cli::AddDemoCommand(app);
  sluice::cli::AddCheckpointCommand(app);
  sluice::cli::AddCheckCommand(app);
  sluice::cli::AddBenchCommand(app);
  sluice::cli::AddDoctorCommand(app);
  sluice::cli::AddTraceCommand(app);
  sluice::cli::AddEvalCommand(app);
  sluice::cli::AddCompletionCommand(app);
  sluice::cli::AddRankCommand(app);
  try {
    sluice::InitLogging("info");
    return sluice::cli::Run(app, {argv + 1, argv + argc}, origins);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::RuntimeError& error) {
    return error.get_exit_code();
  } catch (const CLI::Error& error) {
    fmt::print(stderr, "sluice: {}\n", sluice::cli::WithOrigin(error.what(), origins));
    return 2;
  } catch (const sluice::Error& error) {
    const bool usage = error.kind() == sluice::ErrorKind::kUsage;
    fmt::print(stderr, "sluice: {}\n", usage ? sluice::cli::WithOrigin(error.what(), origins) : error.what());
    return sluice::cli::ExitCodeOf(error.kind());
  } catch (const std::exception& error) {
    fmt::print(stderr, "sluice: {}\n", error.what());
    return 70;
  }
}
