#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/checkpoint.h"
#include "engine/job_settings.h"

namespace sluice::cli {

// What the memory of one host is used for. Ranks that are threads of one process hold weights that they have
// alike once, so their bytes are those of all of them together; of ranks that are processes they are those of
// the one that has the least left for its cache.
struct MemoryPlan {
  int64_t host_bytes = 0;  // of this host, or of the container it runs in; whole GiB from 1 GiB on
  int64_t ranks = 0;       // on this host
  bool threads = false;
  double fraction = 0.0;    // --mem-fraction-static; 0: not given
  int64_t share_bytes = 0;  // for weights and cache; 0 without a fraction
  int64_t weight_bytes = 0;
  int64_t token_bytes = 0;  // of one token in the caches of all layers
  int64_t pages = 0;        // of 64 tokens, on every rank
  int64_t mtp_bytes = 0;    // of weights, those of MTP layers (--load-mtp), where there are most of them

  int64_t cache_bytes() const;
  // The plan as one line for the start-up log.
  std::string Line() const;
};

// Memory that programs on this host may use, in bytes: of the machine, or what its control group allows.
int64_t HostBytes();

// What programs can still take by the text of /proc/meminfo, at most `host_bytes`: memory that nobody has,
// and what the kernel gives back, such as the pages of files that were read. 0 where the text does not say.
int64_t AvailableBytes(std::string_view meminfo, int64_t host_bytes);

// With `fraction` the pages that fit after the weights, for `threads` (all ranks of the job) into fraction x
// host_bytes, and else into fraction x host_bytes / ranks_of_host of each process; otherwise pages is
// settings.cache_pages. The share of a process is the same on all hosts that have the same memory and number
// of ranks, and so is then the number of pages, on which a job must agree. Throws Error(kUsage) when the
// weights and one page do not fit.
MemoryPlan PlanMemory(const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint,
                      int64_t host_bytes, int64_t ranks_of_host, bool threads, double fraction);

}  // namespace sluice::cli
