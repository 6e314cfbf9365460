#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "comm/ordered_channel.h"
#include "comm/rendezvous.h"
#include "engine/faults.h"
#include "engine/rank_set.h"
#include "engine/verdict.h"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace sluice::engine {
namespace {

constexpr Duration kLook = std::chrono::milliseconds(5);
constexpr Duration kLookForSignals = std::chrono::milliseconds(100);

// How long a process that has closed its connections is waited for, to say how it ended. One that had a GPU
// gives it back before that, which takes its time.
Duration ReasonLimit(const JobSettings& settings) {
  return std::chrono::milliseconds(settings.ops == "cuda" ? 2000 : 300);
}

std::string DescribeEnd(int status) {
  if (WIFSIGNALED(status)) return fmt::format("killed by signal {}", WTERMSIG(status));
  return fmt::format("its process ended with exit code {}", WEXITSTATUS(status));
}

// This process's environment, with the secret in it: a command line can be read by everybody on the host, an
// environment by the same user only.
std::vector<std::string> EnvironmentWith(const comm::JobSecret& secret) {
  const std::string name = fmt::format("{}=", comm::kSecretVariable);
  std::vector<std::string> variables{secret.EnvironmentEntry()};
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with(name)) variables.emplace_back(*variable);
  }
  return variables;
}

// A child process that is ended with this object. Thread-safe: the rank's listener asks how it ended while
// another thread stops it.
class RankProcess {
 public:
  RankProcess(const std::string& program, const std::string& settings, int rank, const std::string& join,
              const comm::JobSecret& secret) {
    std::vector<std::string> words{program,  "rank", "--settings", settings, "--rank", std::to_string(rank),
                                   "--join", join};
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::vector<std::string> variables = EnvironmentWith(secret);
    std::vector<char*> environment;
    environment.reserve(variables.size() + 1);
    for (std::string& variable : variables) environment.push_back(variable.data());
    environment.push_back(nullptr);
    // The server waits for its signals in one thread and blocks them; a rank must not inherit that.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    const int error =
        posix_spawn(&pid_, program.c_str(), nullptr, &attributes, argv.data(), environment.data());
    posix_spawnattr_destroy(&attributes);
    if (error != 0) {
      pid_ = -1;
      Fail(ErrorKind::kRankLost, "rank {} could not be started as {}: {}", rank, program,
           std::strerror(error));
    }
  }
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;
  ~RankProcess() { Kill(); }

  int pid() const { return pid_; }
  // As waitpid gives it; after HasEnded.
  int status() const {
    std::lock_guard lock(mutex_);
    return status_;
  }

  bool HasEnded() {
    std::lock_guard lock(mutex_);
    if (!ended_ && pid_ > 0) ended_ = waitpid(pid_, &status_, WNOHANG) == pid_;
    return ended_;
  }
  bool WaitUntil(Deadline deadline) {
    while (!HasEnded()) {
      if (Clock::now() >= deadline) return false;
      std::this_thread::sleep_for(kLook);
    }
    return true;
  }
  void Kill() {
    std::lock_guard lock(mutex_);
    if (pid_ <= 0 || ended_) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, &status_, 0);
    ended_ = true;
  }

 private:
  pid_t pid_ = -1;
  mutable std::mutex mutex_;
  bool ended_ = false;
  int status_ = 0;
};

// This node's share of the ranks: [first, first + count).
struct Share {
  int first = 0;
  int count = 0;
};
Share ShareOf(const JobSettings& settings, const ProcessPlan& plan) {
  const int count = settings.grid.world() / plan.nodes;
  return {plan.node * count, count};
}

bool AskedToEnd(const ProcessPlan& plan) { return plan.asked_to_end && plan.asked_to_end(); }

comm::JobSecret SecretOf(const ProcessPlan& plan) {
  SLUICE_CHECK(plan.secret.has_value() || plan.nodes == 1, "{} nodes cannot agree on a random secret",
               plan.nodes);
  return plan.secret.has_value() ? *plan.secret : comm::JobSecret::Random();
}

std::vector<std::unique_ptr<RankProcess>> StartShare(JobSettings settings, const ProcessPlan& plan,
                                                     const std::string& join, const comm::JobSecret& secret) {
  const Share share = ShareOf(settings, plan);
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  if (settings.compute_threads == 0) settings.compute_threads = std::max(1, cores / share.count);
  std::vector<std::unique_ptr<RankProcess>> processes;
  processes.reserve(share.count);
  const int first_gpu = settings.gpu;
  for (int rank = share.first; rank < share.first + share.count; ++rank) {
    settings.gpu = first_gpu + (rank - share.first) * settings.gpu_step;
    settings.speaks_for_node = plan.node > 0 && rank == share.first;
    processes.push_back(std::make_unique<RankProcess>(plan.program, Print(settings), rank, join, secret));
  }
  return processes;
}

// A directory of its own for the socket of a one-node job.
class SocketDirectory {
 public:
  SocketDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      Fail(ErrorKind::kNetwork, "no directory for the ranks' socket can be made as {}: {}", name,
           std::strerror(errno));
    }
    path_ = name;
  }
  ~SocketDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  SocketDirectory(const SocketDirectory&) = delete;
  SocketDirectory& operator=(const SocketDirectory&) = delete;
  std::string Address() const { return "unix:" + (path_ / "control").string(); }

 private:
  std::filesystem::path path_;
};

class ProcessRanks final : public RankSet {
 public:
  ProcessRanks(const JobSettings& settings, uint64_t checkpoint_fingerprint, const ProcessPlan& plan)
      : share_(ShareOf(settings, plan)), reason_limit_(ReasonLimit(settings)) {
    const std::string listen = plan.join_address.empty() ? directory_.Address() : plan.join_address;
    const comm::JobSecret secret = SecretOf(plan);
    comm::Rendezvous rendezvous(comm::ParseAddress(listen), HelloOf(settings, -1, checkpoint_fingerprint),
                                secret);
    processes_ = StartShare(settings, plan, rendezvous.address().ToString(), secret);
    for (auto& channel : AcceptAll(rendezvous, settings, plan)) {
      const auto rank = static_cast<int>(channels_.size());
      channels_.push_back(comm::MakeOrderedChannel(WithPublishFaults(std::move(channel), settings, rank)));
    }
  }
  ~ProcessRanks() override { Stop(Duration(0)); }

  comm::Channel& channel(int rank) override { return *channels_[rank]; }

  std::string ReasonGone(int rank) override {
    if (ProcessId(rank) < 0) return "";
    RankProcess& process = *processes_[rank - share_.first];
    return process.WaitUntil(Clock::now() + reason_limit_) ? DescribeEnd(process.status()) : "";
  }
  int ProcessId(int rank) override {
    const int local = rank - share_.first;
    return local >= 0 && local < share_.count ? processes_[local]->pid() : -1;
  }
  void Stop(Duration grace) override {
    const Deadline deadline = Clock::now() + grace;
    for (auto& process : processes_) process->WaitUntil(deadline);
    for (auto& process : processes_) process->Kill();
  }

 private:
  // A rank of this host whose process ends is not waited for; and when ranks are lost while they join, one
  // that was killed is why, and the others ended because of it.
  std::vector<std::unique_ptr<comm::Channel>> AcceptAll(comm::Rendezvous& rendezvous,
                                                        const JobSettings& settings,
                                                        const ProcessPlan& plan) {
    try {
      return rendezvous.Accept(settings.join_limit, [&] {
        if (AskedToEnd(plan)) {
          Fail(ErrorKind::kRankLost, "the job was asked to end before all ranks had joined");
        }
        FailIfOneEnded(settings, /*killed_only=*/false);
      });
    } catch (const Error&) {
      const Deadline deadline = Clock::now() + reason_limit_;
      for (auto& process : processes_) process->WaitUntil(deadline);
      FailIfOneEnded(settings, /*killed_only=*/true);
      throw;
    }
  }

  void FailIfOneEnded(const JobSettings& settings, bool killed_only) {
    for (const bool killed : {true, false}) {
      if (killed_only && !killed) return;
      for (size_t i = 0; i < processes_.size(); ++i) {
        if (!processes_[i]->HasEnded() || WIFSIGNALED(processes_[i]->status()) != killed) continue;
        Fail(ErrorKind::kRankLost, "{} is gone: {}, before all ranks had joined",
             DescribeRank(settings.grid, share_.first + static_cast<int>(i)),
             DescribeEnd(processes_[i]->status()));
      }
    }
  }

  Share share_;
  const Duration reason_limit_;
  SocketDirectory directory_;
  std::vector<std::unique_ptr<RankProcess>> processes_;
  std::vector<std::unique_ptr<comm::Channel>> channels_;
};

}  // namespace

std::unique_ptr<RankSet> StartProcessRanks(const JobSettings& settings, uint64_t checkpoint_fingerprint,
                                           const ProcessPlan& plan) {
  return std::make_unique<ProcessRanks>(settings, checkpoint_fingerprint, plan);
}

int RunNode(const JobSettings& settings, const ProcessPlan& plan) {
  const auto processes = StartShare(settings, plan, plan.join_address, SecretOf(plan));
  int code = 0;
  for (const auto& process : processes) {
    while (!process->WaitUntil(Clock::now() + kLookForSignals)) {
      if (AskedToEnd(plan)) return 0;  // with the processes, which end with these objects
    }
    const int status = process->status();
    code = std::max(code, WIFSIGNALED(status) ? 5 : WEXITSTATUS(status));
  }
  return code;
}

}  // namespace sluice::engine
