#include "doctor/host.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace sluice::doctor {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

Limit LimitOf(decltype(RLIMIT_NOFILE) resource, bool hard = false) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0) return std::nullopt;
  const rlim_t value = hard ? limit.rlim_max : limit.rlim_cur;
  return value == RLIM_INFINITY ? Limit() : Limit(value);
}

// The tightest value of `file` from this process's cgroup (version 2) up to the root; "max" is no limit.
Limit CgroupLimit(const std::string& file) {
  std::ifstream own("/proc/self/cgroup");
  std::string line;
  std::filesystem::path group = "/sys/fs/cgroup";
  while (std::getline(own, line)) {
    if (line.starts_with("0::/")) group += line.substr(3);
  }
  Limit tightest;
  for (; group.string().starts_with("/sys/fs/cgroup"); group = group.parent_path()) {
    std::ifstream limit(group / file);
    uint64_t value = 0;
    if (limit >> value) tightest = tightest.has_value() ? std::min(*tightest, value) : value;
  }
  return tightest;
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The value after "name:" in a file such as /proc/meminfo; empty when it is not there.
std::string FieldOf(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1) != name)
      continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::string Shown(Limit limit) { return limit.has_value() ? std::to_string(*limit) : "unlimited"; }

std::string ShownBytes(uint64_t bytes) {
  return bytes >= kGiB ? fmt::format("{:.1f} GiB", static_cast<double>(bytes) / static_cast<double>(kGiB))
                       : fmt::format("{} MiB", bytes / kMiB);
}
std::string ShownBytes(Limit bytes) { return bytes.has_value() ? ShownBytes(*bytes) : "unlimited"; }

bool Below(Limit limit, uint64_t wanted) { return limit.has_value() && *limit < wanted; }

Finding JudgeOpenFiles(const HostLimits& limits) {
  const std::string what = "open files";
  const std::string found =
      fmt::format("{} (hard limit {})", Shown(limits.open_files), Shown(limits.open_files_hard));
  const std::string remedy =
      "every shard, client and rank takes one: ulimit -n 65536, and raise the hard limit if it is lower";
  if (Below(limits.open_files, 512)) return Bad(what, found, remedy);
  if (Below(limits.open_files, 4096)) return Warn(what, found, remedy);
  return Ok(what, found);
}

Finding JudgeTasks(const HostLimits& limits) {
  const std::string what = "processes and threads";
  const std::string found =
      fmt::format("{} (cgroup {})", Shown(limits.processes), Shown(limits.cgroup_tasks));
  const std::string remedy =
      "every rank has a few threads and one per core: ulimit -u 32768, and the container's pids limit too";
  const auto below = [&](uint64_t wanted) {
    return Below(limits.processes, wanted) || Below(limits.cgroup_tasks, wanted);
  };
  if (below(128)) return Bad(what, found, remedy);
  if (below(2048)) return Warn(what, found, remedy);
  return Ok(what, found);
}

}  // namespace

HostLimits ReadLimits() {
  return {LimitOf(RLIMIT_NOFILE),   LimitOf(RLIMIT_NOFILE, true), LimitOf(RLIMIT_MEMLOCK),
          LimitOf(RLIMIT_NPROC),    LimitOf(RLIMIT_AS),           CgroupLimit("pids.max"),
          CgroupLimit("memory.max")};
}

Findings JudgeLimits(const HostLimits& limits, bool has_devices) {
  Findings findings{JudgeOpenFiles(limits), JudgeTasks(limits)};
  if (has_devices && limits.locked_bytes.has_value()) {
    findings.push_back(Warn("locked memory", ShownBytes(limits.locked_bytes),
                            "GPU and RDMA transfers pin host memory: ulimit -l unlimited"));
  } else {
    findings.push_back(
        Ok("locked memory", ShownBytes(limits.locked_bytes) + (has_devices ? "" : " (CPU ranks lock none)")));
  }
  if (limits.address_bytes.has_value()) {
    findings.push_back(Bad("address space", ShownBytes(limits.address_bytes),
                           "checkpoints are mapped whole and caches reserved whole: ulimit -v unlimited"));
  } else {
    findings.push_back(Ok("address space", "unlimited"));
  }
  return findings;
}

HostMemory ReadMemory() {
  const auto kib = [](const char* name) {
    const std::string text = FieldOf("/proc/meminfo", name);
    return text.empty() ? int64_t{0} : std::stoll(text) * 1024;
  };
  HostMemory memory;
  memory.total_bytes = kib("MemTotal");
  memory.available_bytes = kib("MemAvailable");
  struct statvfs shared {};
  if (statvfs("/dev/shm", &shared) == 0) {
    memory.shared_total_bytes = static_cast<int64_t>(shared.f_blocks * shared.f_frsize);
    memory.shared_free_bytes = static_cast<int64_t>(shared.f_bavail * shared.f_frsize);
  }
  const std::string overcommit = FirstLine("/proc/sys/vm/overcommit_memory");
  memory.overcommit = overcommit == "2" ? 2 : overcommit == "1" ? 1 : 0;
  return memory;
}

Findings JudgeMemory(const HostMemory& memory, const HostLimits& limits, bool has_gpu) {
  Findings findings;
  const std::string found = fmt::format(
      "{} of {} available, cgroup limit {}", ShownBytes(static_cast<uint64_t>(memory.available_bytes)),
      ShownBytes(static_cast<uint64_t>(memory.total_bytes)), ShownBytes(limits.cgroup_memory));
  if (memory.available_bytes < static_cast<int64_t>(kGiB) || Below(limits.cgroup_memory, kGiB)) {
    findings.push_back(
        Bad("memory", found, "not even a small model fits: end other programs or raise the limit"));
  } else if (Below(limits.cgroup_memory, static_cast<uint64_t>(memory.available_bytes))) {
    findings.push_back(
        Warn("memory", found,
             "the cgroup has less than the host shows, and ends the process that exceeds it: size "
             "--max-total-tokens by the cgroup's limit"));
  } else {
    findings.push_back(Ok("memory", found));
  }
  if (memory.overcommit == 2) {
    findings.push_back(
        Warn("overcommit", "vm.overcommit_memory is 2",
             "caches are reserved whole and committed on first touch: sysctl vm.overcommit_memory=0"));
  } else {
    findings.push_back(Ok("overcommit", fmt::format("vm.overcommit_memory is {}", memory.overcommit)));
  }
  const std::string shared = memory.shared_total_bytes == 0
                                 ? "no /dev/shm"
                                 : fmt::format("{} of {} free in /dev/shm",
                                               ShownBytes(static_cast<uint64_t>(memory.shared_free_bytes)),
                                               ShownBytes(static_cast<uint64_t>(memory.shared_total_bytes)));
  if (has_gpu && memory.shared_free_bytes < static_cast<int64_t>(kGiB)) {
    findings.push_back(
        Warn("shared memory", shared,
             "NCCL passes data between the GPUs of a host through it: docker run --shm-size 8g"));
  } else {
    findings.push_back(Ok("shared memory", shared + (has_gpu ? "" : " (CPU ranks use none)")));
  }
  return findings;
}

HostCpu ReadCpu() {
  HostCpu cpu;
  cpu.name = FieldOf("/proc/cpuinfo", "model name");
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) cpu.threads = CPU_COUNT(&allowed);
  std::istringstream quota(FirstLine("/sys/fs/cgroup/cpu.max"));
  double granted = 0;
  double period = 0;
  if (quota >> granted >> period && period > 0) cpu.quota = granted / period;
  cpu.sets = ops::CpuInstructionSets();
  return cpu;
}

Findings JudgeCpu(const HostCpu& cpu) {
  Findings findings;
  const std::string cores =
      fmt::format("{}, {} threads{}", cpu.name.empty() ? "unknown model" : cpu.name, cpu.threads,
                  cpu.quota > 0 ? fmt::format(", cgroup quota {:.1f}", cpu.quota) : "");
  if (cpu.quota > 0 && cpu.quota < cpu.threads) {
    findings.push_back(
        Warn("processor", cores,
             "ranks start a thread for each core they see and are throttled together: give the "
             "container whole cores (cpuset)"));
  } else {
    findings.push_back(Ok("processor", cores));
  }
  const ops::InstructionSets& sets = cpu.sets;
  const std::string found =
      fmt::format("{} is used; built for {}, this host has {}", sets.used.empty() ? "none" : sets.used,
                  fmt::join(sets.compiled, " "), fmt::join(sets.supported, " "));
  if (sets.used.empty()) {
    findings.push_back(
        Bad("instruction set", found, "this build has no kernels for this processor: build it here"));
  } else if (sets.used == "SCALAR" || sets.used == "EMU128") {
    findings.push_back(
        Warn("instruction set", found,
             "answers are the same but come many times slower: use a host with AVX2, AVX-512 or NEON"));
  } else {
    findings.push_back(Ok("instruction set", found));
  }
  return findings;
}

}  // namespace sluice::doctor
