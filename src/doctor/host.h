#pragma once

#include <cstdint>
#include <optional>

#include "doctor/finding.h"
#include "ops/cpu/instruction_sets.h"

// What this host gives a process. Each question is in two parts: what there is, and what to think of it.
namespace sluice::doctor {

// Limits of this process and its cgroup; nothing where there is no limit.
using Limit = std::optional<uint64_t>;

struct HostLimits {
  Limit open_files;
  Limit open_files_hard;
  Limit locked_bytes;
  Limit processes;  // and threads
  Limit address_bytes;
  Limit cgroup_tasks;   // pids.max
  Limit cgroup_memory;  // memory.max, bytes
};
HostLimits ReadLimits();
// `has_devices`: a GPU or an RDMA device is there, for which host memory is locked.
Findings JudgeLimits(const HostLimits& limits, bool has_devices);

struct HostMemory {
  int64_t total_bytes = 0;
  int64_t available_bytes = 0;
  int64_t shared_total_bytes = 0;  // /dev/shm; 0: not there
  int64_t shared_free_bytes = 0;
  int overcommit = 0;  // vm.overcommit_memory
};
HostMemory ReadMemory();
Findings JudgeMemory(const HostMemory& memory, const HostLimits& limits, bool has_gpu);

struct HostCpu {
  std::string name;
  int threads = 0;   // that this process may run on
  double quota = 0;  // cores that the cgroup grants; 0: all
  ops::InstructionSets sets;
};
HostCpu ReadCpu();
Findings JudgeCpu(const HostCpu& cpu);

}  // namespace sluice::doctor
