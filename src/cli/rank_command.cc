#include "cli/rank_command.h"

#include <sys/prctl.h>

#include <csignal>
#include <memory>
#include <string>

#include "base/log.h"
#include "engine/rank_host.h"

namespace sluice::cli {

void AddRankCommand(CLI::App& app) {
  struct Flags {
    std::string settings;
    std::string join;
    int rank = 0;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("rank", "One rank process; started by sluice serve")->group("");
  command->add_option("--settings", flags->settings)->required();
  command->add_option("--join", flags->join)->required();
  command->add_option("--rank", flags->rank)->required();
  command->callback([flags] {
    // A rank never outlives the process that started it.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // A terminal sends it to all of its processes; it asks the server for a report and is nothing to a rank.
    std::signal(SIGQUIT, SIG_IGN);
    const engine::JobSettings settings = engine::ParseJobSettings(flags->settings);
    SetLogLevels(settings.log_level, "");
    SetLogFormat(settings.log_format);
    const int code = engine::RunRankProcess(settings, flags->rank, flags->join);
    if (code != 0) throw CLI::RuntimeError(code);
  });
}

}  // namespace sluice::cli
