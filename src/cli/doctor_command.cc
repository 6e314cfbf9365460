#include "cli/doctor_command.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/socket_channel.h"
#include "doctor/gpu.h"
#include "doctor/host.h"
#include "doctor/network.h"
#include "doctor/time_probe.h"
#include "engine/build_id.h"

namespace sluice::cli {
namespace {

constexpr int kSomethingIsBad = 1;

struct DoctorFlags {
  std::string dist_init_addr;
  std::vector<std::string> peers;
  std::string listen;
  int64_t timeout_seconds = 5;
};

doctor::Findings LookAtThisHost() {
  const doctor::GpuSystem gpus = doctor::ReadGpus();
  const bool has_gpu = gpus.devices > 0;
  const doctor::HostLimits limits = doctor::ReadLimits();
  doctor::Findings findings;
  const auto add = [&findings](const doctor::Findings& more) {
    findings.insert(findings.end(), more.begin(), more.end());
  };
  add(doctor::JudgeCpu(doctor::ReadCpu()));
  add(doctor::JudgeMemory(doctor::ReadMemory(), limits, has_gpu));
  add(doctor::JudgeLimits(limits, has_gpu || doctor::HasRdmaDevices()));
  add(doctor::JudgeGpus(gpus));
  add(doctor::LookAtInterfaces());
  add({doctor::LookAtHostName(), doctor::LookAtOwnClock()});
  return findings;
}

// Signals that end the answering are waited for, not handled.
sigset_t BlockEndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

void Doctor(const DoctorFlags& flags) {
  if (flags.timeout_seconds < 1 || flags.timeout_seconds > 3600) {
    Fail(ErrorKind::kUsage, "--timeout {} is out of range: use 1 to 3600 seconds", flags.timeout_seconds);
  }
  const Duration timeout = std::chrono::seconds(flags.timeout_seconds);
  // Everything that can be wrong with the flags is, before anything is looked at.
  std::optional<comm::Address> meeting;
  if (!flags.dist_init_addr.empty()) meeting = comm::ParseAddress(flags.dist_init_addr);
  std::vector<comm::Address> peers;
  for (const std::string& peer : flags.peers) peers.push_back(comm::ParseAddress(peer));
  std::optional<comm::Listener> listener;
  if (!flags.listen.empty()) {
    const comm::Address address = comm::ParseAddress(flags.listen);
    if (comm::IsEveryInterface(address.host)) {
      Fail(ErrorKind::kUsage,
           "--listen {} is every interface: give the one address that the other hosts reach", flags.listen);
    }
    listener.emplace(address);
  }

  std::array<int, 3> counts{};
  const auto show = [&counts](const doctor::Findings& findings) {
    for (const doctor::Finding& finding : findings) {
      fmt::print("{}\n", doctor::Line(finding));
      ++counts[static_cast<size_t>(finding.verdict)];
    }
    std::fflush(stdout);
  };
  show(LookAtThisHost());
  if (meeting.has_value()) show({doctor::LookAtMeetingPoint(*meeting, timeout)});
  for (const comm::Address& peer : peers) show(doctor::AskPeer(peer, engine::BuildId(), timeout));
  fmt::print("{} ok, {} warn, {} bad\n", counts[0], counts[1], counts[2]);
  std::fflush(stdout);

  if (listener.has_value()) {
    const sigset_t end_signals = BlockEndSignals();
    fmt::print("answering other hosts' `sluice doctor --peer {}` until Ctrl-C\n",
               listener->address().ToString());
    std::fflush(stdout);
    constexpr timespec kNow{0, 0};
    doctor::AnswerProbes(*listener, engine::BuildId(), doctor::WallNs,
                         [&] { return sigtimedwait(&end_signals, nullptr, &kNow) > 0; });
  }
  if (counts[static_cast<size_t>(doctor::Verdict::kBad)] > 0) throw CLI::RuntimeError(kSomethingIsBad);
}

}  // namespace

void AddDoctorCommand(CLI::App& app) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* command =
      app.add_subcommand("doctor", "What this host and its network offer a job, with verdicts");
  command->add_option(
      "--dist-init-addr", flags->dist_init_addr,
      "host:port where the ranks of a job are to meet: listened on where it is this host's, else "
      "connected to");
  command->add_option(
      "--peer", flags->peers,
      "host:port of another host's `sluice doctor --listen`: reached, clocks compared; may be "
      "repeated");
  command->add_option("--listen", flags->listen,
                      "host:port on which to answer other hosts' --peer, until Ctrl-C");
  command->add_option("--timeout", flags->timeout_seconds, "Seconds to wait for another host")
      ->capture_default_str();
  command->callback([flags] { Doctor(*flags); });
}

}  // namespace sluice::cli
