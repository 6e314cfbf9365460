#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "base/error.h"
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
#include "cli/option_sources.h"
#include "cli/parse_errors.h"
#include "cli/rank_command.h"
#include "cli/serve_command.h"
#include "cli/trace_command.h"
#include "engine/build_id.h"

namespace sluice::cli {
namespace {

// Parses and runs the line. What a command with a --config takes from elsewhere is completed first, so that
// the parser sees one line and every value is checked alike.
int Run(CLI::App& app, std::vector<std::string> words, Origins& origins) {
  const Addressed addressed = CommandOf(app, words);
  std::vector<std::string> names(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(addressed.names));
  words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(addressed.names));
  CheckSubcommand(*addressed.command, words);
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
  const std::vector<std::string> typed = words;
  words.insert(words.begin(), names.begin(), names.end());
  std::ranges::reverse(words);  // as CLI11 takes them
  try {
    app.parse(std::move(words));
  } catch (const CLI::Success&) {
    throw;
  } catch (const CLI::RuntimeError&) {
    throw;
  } catch (const CLI::Error& error) {
    Fail(ErrorKind::kUsage, "{}", SentenceOf(error, *addressed.command, typed));
  }
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
  } catch (const sluice::Error& error) {
    const bool usage = error.kind() == sluice::ErrorKind::kUsage;
    fmt::print(stderr, "sluice: {}\n", usage ? sluice::cli::WithOrigin(error.what(), origins) : error.what());
    return sluice::cli::ExitCodeOf(error.kind());
  } catch (const std::exception& error) {
    fmt::print(stderr, "sluice: {}\n", error.what());
    return 70;
  }
}
