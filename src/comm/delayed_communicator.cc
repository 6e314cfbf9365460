#include "comm/delayed_communicator.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"

namespace sluice::comm {
namespace {

// A send on its way to the inner communicator.
struct Pending {
  int to = 0;
  uint64_t tag = 0;
  std::span<const std::byte> buffer;
  Deadline due;

  std::mutex mutex;
  std::condition_variable posted;
  std::unique_ptr<Transfer> transfer;  // set when posted
  std::exception_ptr failure;          // set instead when posting failed

  void AwaitPosted() {
    std::unique_lock lock(mutex);
    posted.wait(lock, [&] { return transfer != nullptr || failure != nullptr; });
  }
};

// The link's thread posts every send, so the waits here end one latency after the call at the latest.
class DelayedTransfer final : public Transfer {
 public:
  explicit DelayedTransfer(std::shared_ptr<Pending> pending) : pending_(std::move(pending)) {}
  ~DelayedTransfer() override {
    pending_->AwaitPosted();
    pending_->transfer.reset();  // here, because the link's thread may still hold `pending_` for a moment
  }
  void Wait() override {
    pending_->AwaitPosted();
    if (pending_->failure != nullptr) std::rethrow_exception(pending_->failure);
    pending_->transfer->Wait();
  }

 private:
  const std::shared_ptr<Pending> pending_;
};

class DelayedCommunicator final : public Communicator {
 public:
  DelayedCommunicator(std::unique_ptr<Communicator> inner, Duration latency)
      : inner_(std::move(inner)), latency_(latency), link_([this] { RunLink(); }) {}

  ~DelayedCommunicator() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    link_.join();
  }

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  int GlobalRank(int group_rank) const override { return inner_->GlobalRank(group_rank); }

  std::unique_ptr<Transfer> Send(int to, uint64_t tag, std::span<const std::byte> buffer) override {
    auto pending = std::make_shared<Pending>();
    pending->to = to;
    pending->tag = tag;
    pending->buffer = buffer;
    pending->due = Clock::now() + latency_;
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(pending);
    }
    changed_.notify_all();
    return std::make_unique<DelayedTransfer>(std::move(pending));
  }
  std::unique_ptr<Transfer> Receive(int from, uint64_t tag, std::span<std::byte> buffer) override {
    return inner_->Receive(from, tag, buffer);
  }
  std::unique_ptr<Communicator> Subgroup(std::span<const int> members) override {
    return inner_->Subgroup(members);
  }
  void Abort(std::string_view reason) override { inner_->Abort(reason); }

  void AllGather(std::string_view op, std::span<const std::byte> mine, std::span<std::byte> all,
                 std::span<const int64_t> bytes) override {
    inner_->SetRecorder(recorder_);
    inner_->AllGather(op, mine, all, bytes);
  }
  void AllToAll(std::string_view op, std::span<const std::span<const std::byte>> send,
                std::span<const std::span<std::byte>> receive) override {
    inner_->SetRecorder(recorder_);
    inner_->AllToAll(op, send, receive);
  }
  void Barrier(std::string_view op) override {
    inner_->SetRecorder(recorder_);
    inner_->Barrier(op);
  }

  int64_t bytes_sent() const override { return inner_->bytes_sent(); }
  int64_t bytes_received() const override { return inner_->bytes_received(); }

 private:
  // Posts what is due, in order; at the end also what is left, once it is due.
  void RunLink() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const auto pending = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      std::this_thread::sleep_until(pending->due);
      Post(*pending);
      lock.lock();
    }
  }

  void Post(Pending& pending) {
    std::unique_ptr<Transfer> transfer;
    std::exception_ptr failure;
    try {
      transfer = inner_->Send(pending.to, pending.tag, pending.buffer);
    } catch (...) {
      failure = std::current_exception();
    }
    std::lock_guard lock(pending.mutex);
    pending.transfer = std::move(transfer);
    pending.failure = failure;
    pending.posted.notify_all();
  }

  const std::unique_ptr<Communicator> inner_;
  const Duration latency_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Pending>> queue_;
  bool stopping_ = false;
  std::thread link_;  // last: it uses everything above
};

}  // namespace

std::unique_ptr<Communicator> MakeDelayed(std::unique_ptr<Communicator> inner, Duration latency) {
  SLUICE_CHECK(inner != nullptr && latency >= Duration(0), "a link needs a communicator and a latency");
  return std::make_unique<DelayedCommunicator>(std::move(inner), latency);
}

}  // namespace sluice::comm
