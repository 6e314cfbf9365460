#include "comm/thread_world.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "comm/group_communicator.h"

namespace sluice::comm {
namespace {

// For which somebody who has given up waits for a copy to end.
constexpr Duration kLongestCopy = std::chrono::seconds(2);

// One side's half of a transfer, guarded by its mailbox.
struct Posted {
  // kCopying: a host is at it; kEnqueued: it is put on a stream.
  enum class State { kPosted, kCopying, kEnqueued, kDone, kDetached };
  std::byte* buffer = nullptr;  // written only by a receive
  size_t bytes = 0;
  State state = State::kPosted;
  std::shared_ptr<void> hold;          // of a receive that waits
  std::unique_ptr<StreamMark> ready;   // of the stream's form: the copy comes behind it
  std::unique_ptr<StreamMark> copied;  // of a receive whose copy is on a stream
};

// What is under way from one rank to another.
struct Mailbox {
  using Queues = std::unordered_map<uint64_t, std::deque<std::shared_ptr<Posted>>>;
  std::mutex mutex;
  std::condition_variable changed;
  Queues sends;
  Queues receives;
};

// What a rank's sends are copied on.
struct CopyStream {
  std::mutex mutex;  // a copy and what belongs to it are put there together
  std::unique_ptr<WorkStream> stream;
};

// What all ranks share.
class ThreadWorld {
 public:
  ThreadWorld(int size, Duration timeout, Memory& memory, ReceiveHold hold)
      : size_(size),
        timeout_(timeout),
        memory_(memory),
        hold_(std::move(hold)),
        boxes_(static_cast<size_t>(size) * static_cast<size_t>(size)),
        ranks_(static_cast<size_t>(size)) {
    if (memory.OnHost() || hold_.begin) return;
    copies_ = std::vector<CopyStream>(static_cast<size_t>(size));
    for (CopyStream& copies : copies_) copies.stream = memory.NewStream();
    if (copies_.front().stream == nullptr) copies_.clear();
  }

  Duration timeout() const { return timeout_; }
  Memory& memory() const { return memory_; }
  const ReceiveHold& hold() const { return hold_; }
  bool has_streams() const { return !copies_.empty(); }
  CopyStream& CopiesOf(int sender) { return copies_[static_cast<size_t>(sender)]; }
  Mailbox& Box(int from, int to) {
    return boxes_[static_cast<size_t>(from) * static_cast<size_t>(size_) + static_cast<size_t>(to)];
  }

  bool Failed(int rank) const { return ranks_[rank].failed; }
  bool Left(int rank) const { return ranks_[rank].left; }
  std::string FailureOf(int rank) {
    std::lock_guard lock(mutex_);
    return ranks_[rank].failure;
  }

  // The first failure of a rank stays, and ends the waits for it.
  void FailRank(int rank, std::string_view reason) {
    SetFailure(rank, reason);
    WakeAll();
  }

  void Abort(std::string_view reason) {
    for (int rank = 0; rank < size_; ++rank) SetFailure(rank, reason);
    WakeAll();
  }

  void Leave(int rank) {
    ranks_[rank].left = true;
    WakeAll();
  }

 private:
  struct RankState {
    std::atomic<bool> failed = false;
    std::atomic<bool> left = false;
    std::string failure;  // guarded by mutex_
  };

  void SetFailure(int rank, std::string_view reason) {
    std::lock_guard lock(mutex_);
    if (ranks_[rank].failed) return;
    ranks_[rank].failure = reason;
    ranks_[rank].failed = true;
  }

  // Holding the mailbox's mutex once makes sure that nobody is between its look at the flags and its sleep.
  void WakeAll() {
    for (Mailbox& box : boxes_) {
      std::lock_guard lock(box.mutex);
      box.changed.notify_all();
    }
  }

  const int size_;
  const Duration timeout_;
  Memory& memory_;
  const ReceiveHold hold_;
  std::vector<Mailbox> boxes_;
  std::mutex mutex_;
  std::vector<RankState> ranks_;
  std::vector<CopyStream> copies_;  // by sender; last: what is on them uses the above
};

class ThreadTransfer final : public Transfer {
 public:
  // `stream`: of the rank, in the stream's form; else null.
  ThreadTransfer(std::shared_ptr<ThreadWorld> world, int rank, int peer, bool sending, uint64_t slot,
                 std::byte* buffer, size_t bytes, WorkStream* stream)
      : world_(std::move(world)),
        rank_(rank),
        peer_(peer),
        sending_(sending),
        on_stream_(stream != nullptr),
        slot_(slot),
        box_(sending ? world_->Box(rank, peer) : world_->Box(peer, rank)),
        half_(std::make_shared<Posted>()) {
    half_->buffer = buffer;
    half_->bytes = bytes;
    if (stream != nullptr) half_->ready = stream->Record();
    Post();
  }

  ~ThreadTransfer() override {
    try {
      Wait();
    } catch (const Error&) {
      // The failure is the rank's, and its other waits tell it.
    }
    // The buffer is in use until a copy that is on a stream has passed. After an error of the device it never
    // does.
    std::unique_lock lock(box_.mutex);
    box_.changed.wait_for(lock, std::min<Duration>(world_->timeout(), kLongestCopy),
                          [this] { return half_->state != Posted::State::kEnqueued; });
  }

  void Wait() override {
    Await([this] { return half_->state == Posted::State::kDone; });
  }

  bool WaitOn(WorkStream& stream) override {
    if (!on_stream_) return false;
    Await([this] { return half_->copied != nullptr; });
    stream.WaitFor(*half_->copied);
    return true;
  }

  bool Begun() override {
    std::lock_guard lock(box_.mutex);
    return !on_stream_ || half_->copied != nullptr;
  }

 private:
  using Half = std::shared_ptr<Posted>;

  // Returns when `reached`, which is asked with the mailbox locked; else this rank has failed, and its first
  // failure is thrown.
  template <typename Reached>
  void Await(const Reached& reached) {
    using enum Posted::State;
    std::unique_lock lock(box_.mutex);
    const auto over = [&] {
      if (reached() || half_->state == kDetached) return true;
      if (half_->state == kCopying) return false;
      if (world_->Failed(rank_)) return true;
      return half_->state != kEnqueued && (world_->Failed(peer_) || world_->Left(peer_));
    };
    if (!box_.changed.wait_until(lock, Clock::now() + world_->timeout(), over)) {
      // A copy that a host is at ends by itself, and until then the buffer is in use.
      box_.changed.wait(lock, [&] { return half_->state != kCopying; });
    }
    const bool done = reached();
    if (done && !world_->Failed(rank_)) return;
    if (!done) Detach();
    lock.unlock();
    if (!done) world_->FailRank(rank_, Sentence());
    throw Error(ErrorKind::kRankLost, world_->FailureOf(rank_));
  }

  void Post() {
    std::unique_lock lock(box_.mutex);
    if (world_->Failed(rank_)) {
      half_->state = Posted::State::kDetached;
      return;
    }
    auto& others = sending_ ? box_.receives : box_.sends;
    const auto found = others.find(slot_);
    if (found == others.end()) {
      (sending_ ? box_.sends : box_.receives)[slot_].push_back(half_);
      const bool in_collective = (slot_ & kTagLimit) != 0;
      if (!sending_ && !in_collective && world_->hold().begin) half_->hold = world_->hold().begin(rank_);
      return;
    }
    const Half other = found->second.front();
    if (other->bytes != half_->bytes) {
      const std::string sentence = fmt::format("rank {} {} {} bytes and rank {} {} {} under slot {:#x}",
                                               rank_, sending_ ? "sends" : "expects", half_->bytes, peer_,
                                               sending_ ? "expects" : "sends", other->bytes, slot_);
      half_->state = Posted::State::kDetached;
      lock.unlock();
      world_->Abort(sentence);
      throw Error(ErrorKind::kInternal, sentence);
    }
    found->second.pop_front();
    if (found->second.empty()) others.erase(found);
    const bool on_stream = half_->ready != nullptr || other->ready != nullptr;
    half_->state = other->state = on_stream ? Posted::State::kEnqueued : Posted::State::kCopying;
    lock.unlock();
    const Half& send = sending_ ? half_ : other;
    const Half& receive = sending_ ? other : half_;
    if (on_stream) {
      Enqueue(send, receive);
      return;
    }
    world_->memory().Copy(send->buffer, receive->buffer, static_cast<int64_t>(half_->bytes));
    lock.lock();
    half_->state = other->state = Posted::State::kDone;
    other->hold.reset();
    box_.changed.notify_all();
  }

  // The copy, the mark that the receiver's stream waits for, then the word to the hosts.
  void Enqueue(const Half& send, const Half& receive) {
    CopyStream& copies = world_->CopiesOf(sending_ ? rank_ : peer_);
    std::lock_guard lock(copies.mutex);
    WorkStream& stream = *copies.stream;
    for (const Half& half : {send, receive}) {
      if (half->ready != nullptr) stream.WaitFor(*half->ready);
      half->ready.reset();
    }
    stream.Copy(send->buffer, receive->buffer, static_cast<int64_t>(send->bytes));
    std::unique_ptr<StreamMark> copied = stream.Record();
    // Not the world itself: it owns the stream.
    stream.Call([box = &box_, send, receive] {
      std::lock_guard of_box(box->mutex);
      send->state = receive->state = Posted::State::kDone;
      box->changed.notify_all();
    });
    std::lock_guard of_box(box_.mutex);
    receive->copied = std::move(copied);
    box_.changed.notify_all();
  }

  // Takes the half out of the mailbox: nobody touches its buffer from now on, but a copy that is on a stream.
  void Detach() {
    if (half_->state == Posted::State::kEnqueued) return;
    if (half_->state == Posted::State::kPosted) {
      auto& queues = sending_ ? box_.sends : box_.receives;
      const auto found = queues.find(slot_);
      std::erase(found->second, half_);
      if (found->second.empty()) queues.erase(found);
    }
    half_->state = Posted::State::kDetached;
    half_->hold.reset();
  }

  std::string Sentence() const {
    if (world_->Failed(peer_)) return world_->FailureOf(peer_);
    const char* what = sending_ ? "take" : "send";
    if (world_->Left(peer_)) {
      return fmt::format("rank {} has ended and will not {} the {} bytes that rank {} waits for", peer_, what,
                         half_->bytes, rank_);
    }
    return fmt::format(
        "rank {} did not {} {} bytes within {} ms; rank {} has stopped waiting", peer_, what, half_->bytes,
        std::chrono::duration_cast<std::chrono::milliseconds>(world_->timeout()).count(), rank_);
  }

  const std::shared_ptr<ThreadWorld> world_;
  const int rank_;
  const int peer_;
  const bool sending_;
  const bool on_stream_;
  const uint64_t slot_;
  Mailbox& box_;
  const std::shared_ptr<Posted> half_;
};

class ThreadEndpoint final : public Endpoint {
 public:
  ThreadEndpoint(std::shared_ptr<ThreadWorld> world, int rank) : world_(std::move(world)), rank_(rank) {}
  ~ThreadEndpoint() override { world_->Leave(rank_); }

  std::unique_ptr<Transfer> Send(int to, uint64_t slot, std::span<const std::byte> buffer) override {
    // The one pointer of a half is not const; the send's side only reads through it.
    return std::make_unique<ThreadTransfer>(world_, rank_, to, true, slot,
                                            const_cast<std::byte*>(buffer.data()), buffer.size(), nullptr);
  }
  std::unique_ptr<Transfer> Receive(int from, uint64_t slot, std::span<std::byte> buffer) override {
    return std::make_unique<ThreadTransfer>(world_, rank_, from, false, slot, buffer.data(), buffer.size(),
                                            nullptr);
  }
  std::unique_ptr<Transfer> SendOn(WorkStream& stream, int to, uint64_t slot,
                                   std::span<const std::byte> buffer) override {
    if (!world_->has_streams()) return nullptr;
    return std::make_unique<ThreadTransfer>(world_, rank_, to, true, slot,
                                            const_cast<std::byte*>(buffer.data()), buffer.size(), &stream);
  }
  std::unique_ptr<Transfer> ReceiveOn(WorkStream& stream, int from, uint64_t slot,
                                      std::span<std::byte> buffer) override {
    if (!world_->has_streams()) return nullptr;
    return std::make_unique<ThreadTransfer>(world_, rank_, from, false, slot, buffer.data(), buffer.size(),
                                            &stream);
  }
  void Abort(std::string_view reason) override { world_->Abort(reason); }
  Memory& memory() override { return world_->memory(); }
  int sms_of_receives() const override { return world_->hold().sms; }

 private:
  const std::shared_ptr<ThreadWorld> world_;
  const int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeThreadWorld(int size, Duration timeout, Memory& memory,
                                                           ReceiveHold hold) {
  SLUICE_CHECK(size > 0 && timeout > Duration(0), "{} ranks", size);
  const auto world = std::make_shared<ThreadWorld>(size, timeout, memory, std::move(hold));
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; ++rank) {
    ranks.push_back(MakeWorldCommunicator(std::make_shared<ThreadEndpoint>(world, rank), rank, size));
  }
  return ranks;
}

}  // namespace sluice::comm
