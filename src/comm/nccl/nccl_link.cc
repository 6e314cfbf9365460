#include "comm/nccl/nccl_link.h"

#include <utility>

namespace sluice::comm {

NcclLink::NcclLink(NcclRank& rank, int peer, bool sending)
    : rank_(rank), peer_(peer), sending_(sending), thread_([this] { Run(); }) {}

NcclLink::~NcclLink() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void NcclLink::Push(std::shared_ptr<NcclPost> post) {
  std::lock_guard lock(mutex_);
  queue_.push_back(std::move(post));
  changed_.notify_all();
}

void NcclLink::SetId(const ncclUniqueId& id) {
  std::lock_guard lock(mutex_);
  id_ = id;
  changed_.notify_all();
}

// The receiver makes the link when its first transfer is there, the sender when it hears of that.
bool NcclLink::AwaitStart() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopping_ || (sending_ ? id_.has_value() : !queue_.empty()); });
  return !stopping_;
}

std::shared_ptr<NcclPost> NcclLink::Next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
  if (stopping_) return nullptr;
  auto post = std::move(queue_.front());
  queue_.pop_front();
  return post;
}

void NcclLink::Connect() {
  stream_ = std::make_unique<DeviceStream>();
  if (!sending_) {
    id_ = NewNcclId();
    rank_.TellLinkId(peer_, *id_);
  }
  const std::vector<int> members = {sending_ ? rank_.rank() : peer_, sending_ ? peer_ : rank_.rank()};
  comm_ = rank_.MakeComm(*id_, members, sending_ ? 0 : 1, rank_.NewDeadline(), [&] {
    return fmt::format("rank {} did not make its NCCL link with rank {} {}", peer_, rank_.rank(),
                       rank_.TooLate());
  });
}

void NcclLink::Run() {
  try {
    const DeviceScope scope(rank_.config().device);
    if (!AwaitStart()) return;
    Connect();
    while (const auto post = Next()) {
      if (!sending_) rank_.TellGo(peer_, post->slot);
      const auto transfer = [&](ncclComm_t comm) {
        return sending_ ? ncclSend(post->data, post->bytes, ncclUint8, 1, comm, stream_->get())
                        : ncclRecv(post->data, post->bytes, ncclUint8, 0, comm, stream_->get());
      };
      rank_.Launch(*comm_, transfer, rank_.NewDeadline(), [&] {
        return fmt::format("rank {} did not begin the transfer of {} bytes with rank {} {}", peer_,
                           post->bytes, rank_.rank(), rank_.TooLate());
      });
      CheckCuda(cudaEventRecord(post->done->get(), stream_->get()), "cudaEventRecord");
      rank_.Launched(*post, comm_);
    }
  } catch (const Error& error) {
    rank_.FailAll(error.kind(), error.what());
  }
}

}  // namespace sluice::comm
