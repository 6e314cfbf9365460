#include "comm/nccl/nccl_rank.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "comm/nccl/nccl_link.h"

namespace sluice::comm {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// The first look at an event comes soon, later ones are further apart.
constexpr microseconds kFirstLook{20};
constexpr microseconds kLastLook{500};
// A rank that died is known to the mesh a little later than its transfers fail.
constexpr milliseconds kNameLimit{500};

class NcclTransfer final : public Transfer {
 public:
  NcclTransfer(std::shared_ptr<NcclRank> rank, std::shared_ptr<NcclPost> post)
      : rank_(std::move(rank)), post_(std::move(post)) {}
  ~NcclTransfer() override {
    try {
      if (!complete_) rank_->Await(*post_);
    } catch (const Error&) {
      // The failure is the rank's, and its other waits tell it.
    }
  }
  void Wait() override {
    rank_->ThrowIfFailed();
    if (!complete_) rank_->Await(*post_);
    complete_ = true;
  }

 private:
  const std::shared_ptr<NcclRank> rank_;
  const std::shared_ptr<NcclPost> post_;
  bool complete_ = false;
};

}  // namespace

NcclRank::NcclRank(int rank, int size, KeyValueStore& store, const std::string& bind,
                   const NcclConfig& config, Duration timeout)
    : rank_(rank),
      config_(config),
      timeout_(timeout),
      mesh_(rank, size, store, bind, timeout),
      peers_(static_cast<size_t>(size)) {
  mesh_.Start(*this);
}

NcclRank::~NcclRank() {
  mesh_.TellLeave();
  closing_ = true;
  mesh_.Close();
  for (Peer& peer : peers_) {
    peer.incoming.reset();
    peer.outgoing.reset();
  }
}

std::string NcclRank::TooLate() const {
  return fmt::format("within {} ms; rank {} has stopped waiting",
                     std::chrono::duration_cast<milliseconds>(timeout_).count(), rank_);
}

void NcclRank::RequireDevice(std::string_view what, std::span<const std::byte> bytes) const {
  if (bytes.empty()) return;
  cudaPointerAttributes attributes{};
  const cudaError_t error = cudaPointerGetAttributes(&attributes, bytes.data());
  SLUICE_CHECK(
      error == cudaSuccess && attributes.type == cudaMemoryTypeDevice && attributes.device == config_.device,
      "{}: {} bytes are not memory of CUDA device {}; NCCL moves device memory only, gloo moves the "
      "host's",
      what, bytes.size(), config_.device);
}

std::unique_ptr<Transfer> NcclRank::Send(int to, uint64_t slot, std::span<const std::byte> buffer) {
  if (IsOnHost(buffer)) return SendMessage(to, slot, buffer);
  RequireDevice("send", buffer);
  const DeviceScope scope(config_.device);
  auto post = std::make_shared<NcclPost>();
  post->peer = to;
  post->sending = true;
  post->slot = slot;
  post->data = const_cast<std::byte*>(buffer.data());  // NCCL's send only reads
  post->bytes = buffer.size();
  post->done = std::make_unique<DeviceEvent>();
  {
    std::lock_guard lock(mutex_);
    if (!failed_) peers_[to].sends[slot].push_back(post);
  }
  if (!failed_) TellPosted(to, slot, buffer.size());
  return std::make_unique<NcclTransfer>(shared_from_this(), std::move(post));
}

std::unique_ptr<Transfer> NcclRank::Receive(int from, uint64_t slot, std::span<std::byte> buffer) {
  if (IsOnHost(buffer)) return ReceiveMessage(from, slot, buffer);
  RequireDevice("receive", buffer);
  const DeviceScope scope(config_.device);
  auto post = std::make_shared<NcclPost>();
  post->peer = from;
  post->slot = slot;
  post->data = buffer.data();
  post->bytes = buffer.size();
  post->done = std::make_unique<DeviceEvent>();
  std::unique_lock lock(mutex_);
  if (!failed_) {
    Peer& peer = peers_[from];
    const auto found = peer.announced.find(slot);
    if (found == peer.announced.end()) {
      peer.receives[slot].push_back(post);
    } else {
      const uint64_t sent = found->second.front();
      found->second.pop_front();
      if (found->second.empty()) peer.announced.erase(found);
      Meet(lock, post, sent);
    }
  }
  return std::make_unique<NcclTransfer>(shared_from_this(), std::move(post));
}

bool NcclRank::IsOnHost(std::span<const std::byte> bytes) const {
  cudaPointerAttributes attributes{};
  return !bytes.empty() && cudaPointerGetAttributes(&attributes, bytes.data()) == cudaSuccess &&
         (attributes.type == cudaMemoryTypeUnregistered || attributes.type == cudaMemoryTypeHost);
}

// It has left when this returns: a message does not wait for its receive.
std::unique_ptr<Transfer> NcclRank::SendMessage(int to, uint64_t slot, std::span<const std::byte> bytes) {
  SLUICE_CHECK(bytes.size() <= kLongestMessage,
               "{} bytes of the host's memory are sent at once, of at most {}", bytes.size(),
               kLongestMessage);
  auto post = std::make_shared<NcclPost>();
  post->peer = to;
  post->sending = post->on_host = post->launched = true;
  if (!failed_) TellMessage(to, slot, bytes);
  return std::make_unique<NcclTransfer>(shared_from_this(), std::move(post));
}

std::unique_ptr<Transfer> NcclRank::ReceiveMessage(int from, uint64_t slot, std::span<std::byte> bytes) {
  auto post = std::make_shared<NcclPost>();
  post->peer = from;
  post->slot = slot;
  post->data = bytes.data();
  post->bytes = bytes.size();
  post->on_host = true;
  std::unique_lock lock(mutex_);
  if (!failed_) {
    auto& messages = peers_[from].messages;
    const auto found = messages.find(slot);
    if (found == messages.end()) {
      peers_[from].receives[slot].push_back(post);
    } else {
      const Payload message = std::move(found->second.front());
      found->second.pop_front();
      if (found->second.empty()) messages.erase(found);
      Land(lock, *post, message);
    }
  }
  return std::make_unique<NcclTransfer>(shared_from_this(), std::move(post));
}

// The bytes are put where they belong while nobody can give up their receive; the lock may be given up.
void NcclRank::Land(std::unique_lock<std::mutex>& lock, NcclPost& receive, const Payload& message) {
  if (receive.on_host && receive.bytes == message.size()) {
    std::copy(message.begin(), message.end(), receive.data);
    receive.launched = true;
    changed_.notify_all();
    return;
  }
  const std::string sentence = fmt::format(
      "rank {} sends {} bytes of its host's memory and rank {} expects {} in its {} under slot {:#x}",
      receive.peer, message.size(), rank_, receive.bytes, receive.on_host ? "host's" : "device's",
      receive.slot);
  lock.unlock();
  FailAll(ErrorKind::kInternal, sentence);
}

// Both sides have posted; the lock may be given up.
void NcclRank::Meet(std::unique_lock<std::mutex>& lock, std::shared_ptr<NcclPost> receive, uint64_t sent) {
  if (sent == receive->bytes && !receive->on_host) {
    const int from = receive->peer;
    Link(peers_[from].incoming, from, false).Push(std::move(receive));
    return;
  }
  const std::string sentence = fmt::format("rank {} sends {} bytes and rank {} expects {} under slot {:#x}",
                                           receive->peer, sent, rank_, receive->bytes, receive->slot);
  lock.unlock();
  FailAll(ErrorKind::kInternal, sentence);
}

NcclLink& NcclRank::Link(std::unique_ptr<NcclLink>& link, int peer, bool sending) {
  if (link == nullptr) link = std::make_unique<NcclLink>(*this, peer, sending);
  return *link;
}

void NcclRank::Launched(NcclPost& post, std::shared_ptr<NcclComm> comm) {
  std::lock_guard lock(mutex_);
  post.comm = std::move(comm);
  post.launched = true;
  changed_.notify_all();
}

void NcclRank::Await(NcclPost& post) {
  const Deadline deadline = NewDeadline();
  {
    std::unique_lock lock(mutex_);
    const Peer& peer = peers_[post.peer];
    changed_.wait_until(lock, deadline, [&] { return post.launched || failed_ || peer.left; });
    if (!post.launched) {
      const bool left = peer.left;
      lock.unlock();
      ThrowIfFailed();
      const char* what = post.sending ? "take" : "send";
      FailWith(left ? fmt::format("rank {} has ended and will not {} the {} bytes that rank {} waits for",
                                  post.peer, what, post.bytes, rank_)
                    : fmt::format("rank {} did not {} {} bytes {}", post.peer, what, post.bytes, TooLate()));
    }
  }
  if (post.on_host) return;
  AwaitEvent(post.done->get(), *post.comm, deadline, [&] {
    return fmt::format("rank {} did not {} {} bytes to the end {}", post.peer, post.sending ? "take" : "send",
                       post.bytes, TooLate());
  });
}

void NcclRank::AwaitEvent(cudaEvent_t event, NcclComm& comm, Deadline deadline,
                          const std::function<std::string()>& late) {
  const ShortNaps naps;
  microseconds nap = kFirstLook;
  while (true) {
    ThrowIfFailed();
    const cudaError_t state = cudaEventQuery(event);
    if (state == cudaSuccess) return;
    if (state != cudaErrorNotReady) {
      FailWith(fmt::format("rank {}: CUDA device {} reports: {}", rank_, config_.device,
                           cudaGetErrorString(state)));
    }
    const ncclResult_t result = comm.AsyncError();
    if (result != ncclSuccess) FailBroken(comm, result);
    if (Clock::now() >= deadline) FailWith(late());
    std::this_thread::sleep_for(nap);
    nap = std::min(nap * 5 / 4, kLastLook);
  }
}

std::shared_ptr<NcclComm> NcclRank::MakeComm(const ncclUniqueId& id, const std::vector<int>& members,
                                             int place, Deadline deadline,
                                             const std::function<std::string()>& late) {
  auto comm = std::make_shared<NcclComm>(id, members, place, config_);
  {
    std::lock_guard lock(mutex_);
    std::erase_if(comms_, [](const auto& one) { return one.expired(); });
    comms_.push_back(comm);
  }
  const auto give_up = [&] { return failed_ || closing_ || Clock::now() >= deadline; };
  const ncclResult_t result = comm->AwaitReady(give_up);
  if (result == ncclSuccess) return comm;
  ThrowIfFailed();
  if (result == ncclInProgress) FailWith(late());
  FailBroken(*comm, result);
}

void NcclRank::Launch(NcclComm& comm, const std::function<ncclResult_t(ncclComm_t)>& enqueue,
                      Deadline deadline, const std::function<std::string()>& late) {
  ThrowIfFailed();
  const auto give_up = [&] { return failed_ || closing_ || Clock::now() >= deadline; };
  const ncclResult_t result = comm.Run(enqueue, give_up);
  if (result == ncclSuccess) return;
  ThrowIfFailed();
  if (result == ncclInProgress) FailWith(late());
  FailBroken(comm, result);
}

// The mesh names the rank that is gone; NCCL's words, which name nobody, are for when nobody is.
void NcclRank::FailBroken(NcclComm& comm, ncclResult_t result) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kNameLimit, [&] { return failed_.load(); });
  }
  ThrowIfFailed();
  FailWith(fmt::format("rank {} has an NCCL failure in a transfer among ranks {}: {}", rank_,
                       fmt::join(comm.members(), ", "), comm.Words(result)));
}

void NcclRank::FailWith(const std::string& sentence) {
  FailAll(ErrorKind::kRankLost, sentence);
  ThrowIfFailed();
  Fail(ErrorKind::kInternal, "a failure was forgotten: {}", sentence);
}

void NcclRank::FailAll(ErrorKind kind, const std::string& sentence, bool tell) {
  {
    std::lock_guard lock(mutex_);
    if (failed_) return;
    failure_kind_ = kind;
    failure_ = sentence;
    failed_ = true;
    changed_.notify_all();
  }
  if (tell) mesh_.TellFailed(kind, sentence);
  AbortComms();
}

// Waits until nothing of this rank's touches a buffer any more.
void NcclRank::ThrowIfFailed() {
  if (!failed_) return;
  AbortComms();
  std::lock_guard lock(mutex_);
  throw Error(failure_kind_, failure_);
}

void NcclRank::AbortComms() {
  std::vector<std::shared_ptr<NcclComm>> comms;
  {
    std::lock_guard lock(mutex_);
    for (const auto& one : comms_) {
      if (auto comm = one.lock()) comms.push_back(std::move(comm));
    }
  }
  for (const auto& comm : comms) comm->Abort();
}

}  // namespace sluice::comm
