#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "comm/channel.h"
#include "comm/job_secret.h"
#include "engine/job_settings.h"
#include "engine/rank_host.h"

namespace sluice::engine {

// The ranks of a job, started and joined: one control channel each, in the order of ranks.
class RankSet {
 public:
  virtual ~RankSet() = default;
  virtual comm::Channel& channel(int rank) = 0;
  // Why the channel of `rank` closed, as far as the operating system tells ("killed by signal 9"); or empty.
  virtual std::string ReasonGone(int rank) = 0;
  // The process of `rank` when it runs on this host as one of its own, else -1.
  virtual int ProcessId(int rank) = 0;
  // Waits up to `grace` for the ranks to end by themselves, then ends those that can be ended.
  virtual void Stop(Duration grace) = 0;
};

// Every rank a thread of this process, all reading one opened checkpoint and sharing one compute pool.
std::unique_ptr<RankSet> StartThreadRanks(const JobSettings& settings,
                                          std::shared_ptr<const checkpoint::Checkpoint> checkpoint,
                                          const RankProbes& probes);

// How rank processes are started and found.
struct ProcessPlan {
  std::string program;                    // the sluice binary
  int nodes = 1;                          // --nnodes
  int node = 0;                           // --node-rank
  std::string join_address;               // --dist-init-addr; empty with one node: a private Unix socket
  std::optional<comm::JobSecret> secret;  // must be there with several nodes; one node makes its own without
  // Asked now and then while ranks join, and while a node above 0 waits for the end of its ranks: whether
  // somebody wants this process to end. Empty: nobody does.
  std::function<bool()> asked_to_end;
};

// Starts this node's share of the ranks as processes and, on node 0, waits until all ranks of all nodes have
// joined. Throws Error(kRankLost) naming the ranks that have not joined within settings.join_limit, or when
// plan.asked_to_end says so before.
std::unique_ptr<RankSet> StartProcessRanks(const JobSettings& settings, uint64_t checkpoint_fingerprint,
                                           const ProcessPlan& plan);

// The other nodes: starts this node's ranks, waits for their end and returns the exit code; 0 when
// plan.asked_to_end ended them, which node 0 sees as the loss of its ranks.
int RunNode(const JobSettings& settings, const ProcessPlan& plan);

}  // namespace sluice::engine
