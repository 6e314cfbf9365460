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

// One side's half of a transfer, guarded by its mailbox.
struct Posted {
  enum class State { kPosted, kCopying, kDone, kDetached };
  std::byte* buffer = nullptr;  // written only by a receive
  size_t bytes = 0;
  State state = State::kPosted;
  std::shared_ptr<void> hold;  // of a receive that waits
};

// What is under way from one rank to another.
struct Mailbox {
  std::mutex mutex;
  std::condition_variable changed;
  std::unordered_map<uint64_t, std::deque<Posted*>> sends;
  std::unordered_map<uint64_t, std::deque<Posted*>> receives;
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
        ranks_(boxes_.size()) {}

  Duration timeout() const { return timeout_; }
  Memory& memory() const { return memory_; }
  const ReceiveHold& hold() const { return hold_; }
  Mailbox& Box(int from, int to) {
    return boxes_[static_cast<size_t>(from) * static_cast<size_t>(size_) + static_cast<size_t>(to)];
  }

  bool Failed(int rank) const { return ranks_[rank].failed; }
  bool Left(int rank) const { return ranks_[rank].left; }
  std::string FailureOf(int rank) {
    std::lock_guard lock(mutex_);
    return ranks_[rank].failure;
  }

  // The first failure of a rank stays.
  void FailRank(int rank, std::string_view reason) {
    std::lock_guard lock(mutex_);
    if (ranks_[rank].failed) return;
    ranks_[rank].failure = reason;
    ranks_[rank].failed = true;
  }

  void Abort(std::string_view reason) {
    for (int rank = 0; rank < size_; ++rank) FailRank(rank, reason);
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
};

class ThreadTransfer final : public Transfer {
 public:
  ThreadTransfer(std::shared_ptr<ThreadWorld> world, int rank, int peer, bool sending, uint64_t slot,
                 std::byte* buffer, size_t bytes)
      : world_(std::move(world)),
        rank_(rank),
        peer_(peer),
        sending_(sending),
        slot_(slot),
        box_(sending ? world_->Box(rank, peer) : world_->Box(peer, rank)),
        half_{buffer, bytes, Posted::State::kPosted, nullptr} {
    Post();
  }

  ~ThreadTransfer() override {
    try {
      Wait();
    } catch (const Error&) {
      // The failure is the rank's, and its other waits tell it.
    }
  }

  void Wait() override {
    std::unique_lock lock(box_.mutex);
    const auto over = [&] {
      using enum Posted::State;
      return half_.state == kDone || half_.state == kDetached ||
             (half_.state == kPosted && (world_->Failed(rank_) || world_->Left(peer_)));
    };
    if (!box_.changed.wait_until(lock, Clock::now() + world_->timeout(), over)) {
      // A copy under way ends by itself, and until then the buffer is in use.
      box_.changed.wait(lock, [&] { return half_.state != Posted::State::kCopying; });
    }
    const bool done = half_.state == Posted::State::kDone;
    if (done && !world_->Failed(rank_)) return;
    if (!done) {
      Detach();
      world_->FailRank(rank_, Sentence());
    }
    lock.unlock();
    throw Error(ErrorKind::kRankLost, world_->FailureOf(rank_));
  }

 private:
  void Post() {
    std::unique_lock lock(box_.mutex);
    if (world_->Failed(rank_)) {
      half_.state = Posted::State::kDetached;
      return;
    }
    auto& others = sending_ ? box_.receives : box_.sends;
    const auto found = others.find(slot_);
    if (found == others.end()) {
      (sending_ ? box_.sends : box_.receives)[slot_].push_back(&half_);
      const bool in_collective = (slot_ & kTagLimit) != 0;
      if (!sending_ && !in_collective && world_->hold().begin) half_.hold = world_->hold().begin(rank_);
      return;
    }
    Posted& other = *found->second.front();
    if (other.bytes != half_.bytes) {
      const std::string sentence = fmt::format("rank {} {} {} bytes and rank {} {} {} under slot {:#x}",
                                               rank_, sending_ ? "sends" : "expects", half_.bytes, peer_,
                                               sending_ ? "expects" : "sends", other.bytes, slot_);
      half_.state = Posted::State::kDetached;
      lock.unlock();
      world_->Abort(sentence);
      throw Error(ErrorKind::kInternal, sentence);
    }
    found->second.pop_front();
    if (found->second.empty()) others.erase(found);
    half_.state = other.state = Posted::State::kCopying;
    lock.unlock();
    const std::byte* source = sending_ ? half_.buffer : other.buffer;
    world_->memory().Copy(source, sending_ ? other.buffer : half_.buffer, static_cast<int64_t>(half_.bytes));
    lock.lock();
    half_.state = other.state = Posted::State::kDone;
    other.hold.reset();
    box_.changed.notify_all();
  }

  // Takes the half out of the mailbox: nobody touches its buffer from now on.
  void Detach() {
    if (half_.state == Posted::State::kPosted) {
      auto& queues = sending_ ? box_.sends : box_.receives;
      const auto found = queues.find(slot_);
      std::erase(found->second, &half_);
      if (found->second.empty()) queues.erase(found);
    }
    half_.state = Posted::State::kDetached;
    half_.hold.reset();
  }

  std::string Sentence() const {
    const char* what = sending_ ? "take" : "send";
    if (world_->Left(peer_)) {
      return fmt::format("rank {} has ended and will not {} the {} bytes that rank {} waits for", peer_, what,
                         half_.bytes, rank_);
    }
    return fmt::format(
        "rank {} did not {} {} bytes within {} ms; rank {} has stopped waiting", peer_, what, half_.bytes,
        std::chrono::duration_cast<std::chrono::milliseconds>(world_->timeout()).count(), rank_);
  }

  const std::shared_ptr<ThreadWorld> world_;
  const int rank_;
  const int peer_;
  const bool sending_;
  const uint64_t slot_;
  Mailbox& box_;
  Posted half_;
};

class ThreadEndpoint final : public Endpoint {
 public:
  ThreadEndpoint(std::shared_ptr<ThreadWorld> world, int rank) : world_(std::move(world)), rank_(rank) {}
  ~ThreadEndpoint() override { world_->Leave(rank_); }

  std::unique_ptr<Transfer> Send(int to, uint64_t slot, std::span<const std::byte> buffer) override {
    // The one pointer of a half is not const; the send's side only reads through it.
    return std::make_unique<ThreadTransfer>(world_, rank_, to, true, slot,
                                            const_cast<std::byte*>(buffer.data()), buffer.size());
  }
  std::unique_ptr<Transfer> Receive(int from, uint64_t slot, std::span<std::byte> buffer) override {
    return std::make_unique<ThreadTransfer>(world_, rank_, from, false, slot, buffer.data(), buffer.size());
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
