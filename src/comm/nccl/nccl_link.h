#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "comm/nccl/nccl_rank.h"

namespace sluice::comm {

// One direction between this rank and a peer: a communicator of two, a stream, and the thread that launches
// the transfers in the order in which they are pushed, the same on both sides. Nothing else runs on the
// stream, so neither a transfer of another direction nor a collective can stand before one of these.
class NcclLink {
 public:
  NcclLink(NcclRank& rank, int peer, bool sending);
  ~NcclLink();
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  void Push(std::shared_ptr<NcclPost> post);
  // The sender's side, once.
  void SetId(const ncclUniqueId& id);

 private:
  void Run();
  bool AwaitStart();
  std::shared_ptr<NcclPost> Next();
  void Connect();

  NcclRank& rank_;
  const int peer_;
  const bool sending_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<NcclPost>> queue_;
  std::optional<ncclUniqueId> id_;
  bool stopping_ = false;

  std::unique_ptr<DeviceStream> stream_;
  std::shared_ptr<NcclComm> comm_;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace sluice::comm
