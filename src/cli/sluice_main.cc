#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "base/log.h"
#include "cli/check_command.h"
#include "cli/checkpoint_command.h"
#include "cli/demo_command.h"
#include "cli/doctor_command.h"
#include "cli/exit_codes.h"
#include "cli/rank_command.h"
#include "cli/serve_command.h"
#include "engine/build_id.h"

int main(int argc, char** argv) {
  CLI::App app("sluice: DeepSeek-V3.2-class models, long prompts answered soon", "sluice");
  app.require_subcommand(1);
  app.set_version_flag("--version", sluice::engine::BuildId());
  sluice::cli::AddServeCommand(app);
  sluice::cli::AddDemoCommand(app);
  sluice::cli::AddCheckpointCommand(app);
  sluice::cli::AddCheckCommand(app);
  sluice::cli::AddDoctorCommand(app);
  sluice::cli::AddRankCommand(app);
  try {
    sluice::InitLogging("info");
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::RuntimeError& error) {
    return error.get_exit_code();
  } catch (const CLI::Error& error) {
    fmt::print(stderr, "sluice: {}\n", error.what());
    return 2;
  } catch (const sluice::Error& error) {
    fmt::print(stderr, "sluice: {}\n", error.what());
    return sluice::cli::ExitCodeOf(error.kind());
  } catch (const std::exception& error) {
    fmt::print(stderr, "sluice: {}\n", error.what());
    return 70;
  }
}
