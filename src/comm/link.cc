#include "comm/link.h"

#include <utility>

#include "base/error.h"

namespace sluice::comm {

// A send on its way to the inner communicator.
struct Link::Pending {
  std::shared_ptr<Communicator> inner;
  int to = 0;
  uint64_t tag = 0;
  std::vector<std::byte> copy;  // what `buffer` names, if the link keeps it
  std::span<const std::byte> buffer;

  std::mutex mutex;
  std::condition_variable posted;
  std::unique_ptr<Transfer> transfer;  // set when posted
  std::exception_ptr failure;          // set instead when posting failed

  void AwaitPosted() {
    std::unique_lock lock(mutex);
    posted.wait(lock, [&] { return transfer != nullptr || failure != nullptr; });
  }

  void Post() {
    std::unique_ptr<Transfer> started;
    std::exception_ptr error;
    try {
      started = inner->Send(to, tag, buffer);
    } catch (...) {
      error = std::current_exception();
    }
    std::lock_guard lock(mutex);
    transfer = std::move(started);
    failure = error;
    posted.notify_all();
  }
};

// The link's thread posts every send, so the waits here end when the send is due at the latest.
class Link::LateTransfer final : public Transfer {
 public:
  explicit LateTransfer(std::shared_ptr<Pending> pending) : pending_(std::move(pending)) {}
  ~LateTransfer() override {
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

Link::Link() : thread_([this] { Run(); }) {}

Link::~Link() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  for (const auto& copy : copies_) copy->inner->Abort("the rank that sent it has ended");
}

std::unique_ptr<Transfer> Link::SendAt(Deadline due, std::shared_ptr<Communicator> inner, int to,
                                       uint64_t tag, std::span<const std::byte> buffer) {
  auto pending = std::make_shared<Pending>();
  pending->inner = std::move(inner);
  pending->to = to;
  pending->tag = tag;
  pending->buffer = buffer;
  Add(due, pending);
  return std::make_unique<LateTransfer>(std::move(pending));
}

Link::Ticket Link::SendCopyAt(Deadline due, std::shared_ptr<Communicator> inner, int to, uint64_t tag,
                              std::span<const std::byte> buffer) {
  auto pending = std::make_shared<Pending>();
  pending->inner = std::move(inner);
  pending->to = to;
  pending->tag = tag;
  pending->copy.assign(buffer.begin(), buffer.end());
  pending->buffer = pending->copy;
  {
    std::lock_guard lock(mutex_);
    copies_.push_back(pending);
  }
  Add(due, pending);
  return pending;
}

void Link::SendNow(const Ticket& ticket) {
  std::lock_guard lock(mutex_);
  for (auto at = queue_.begin(); at != queue_.end(); ++at) {
    if (at->second != ticket) continue;
    queue_.erase(at);
    queue_.emplace(Clock::now(), ticket);
    changed_.notify_all();
    return;
  }
}

void Link::Hurry() {
  std::lock_guard lock(mutex_);
  hurry_ = true;
  changed_.notify_all();
}

void Link::Add(Deadline due, std::shared_ptr<Pending> pending) {
  std::lock_guard lock(mutex_);
  queue_.emplace(due, std::move(pending));
  changed_.notify_all();
}

void Link::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    if (queue_.empty()) {
      if (stopping_) return;
      changed_.wait(lock);
      continue;
    }
    const Deadline due = queue_.begin()->first;
    if (!hurry_ && !stopping_ && Clock::now() < due) {
      changed_.wait_until(lock, due);
      continue;
    }
    const std::shared_ptr<Pending> pending = std::move(queue_.begin()->second);
    queue_.erase(queue_.begin());
    lock.unlock();
    pending->Post();
    lock.lock();
  }
}

}  // namespace sluice::comm
