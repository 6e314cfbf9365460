#pragma once

#include <condition_variable>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "comm/communicator.h"

namespace sluice::comm {

// Hands sends to communicators later than they were made: a slow link, a late message. One thread posts them
// when they are due. Thread-safe.
class Link {
  struct Pending;

 public:
  // A message the link keeps.
  using Ticket = std::shared_ptr<Pending>;

  Link();
  // Posts what is left, whether due or not, and ends the thread; copies that nobody took are given up, with
  // the communicators they were sent over.
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Sends `buffer`, which the caller keeps until the transfer is complete, over `inner` at `due`. The
  // transfer's Wait returns when the real send is done.
  std::unique_ptr<Transfer> SendAt(Deadline due, std::shared_ptr<Communicator> inner, int to, uint64_t tag,
                                   std::span<const std::byte> buffer);
  // The same for a copy that the link keeps: for the sender the message has left.
  Ticket SendCopyAt(Deadline due, std::shared_ptr<Communicator> inner, int to, uint64_t tag,
                    std::span<const std::byte> buffer);
  // Makes a copy due now, if it still waits.
  void SendNow(const Ticket& ticket);
  // Posts everything that is not sent yet now, and what comes later at once: after an abort nobody waits.
  void Hurry();

 private:
  class LateTransfer;

  void Add(Deadline due, std::shared_ptr<Pending> pending);
  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<Deadline, std::shared_ptr<Pending>> queue_;  // equal times in the order of their sends
  std::vector<std::shared_ptr<Pending>> copies_;             // until the end: nobody else waits for them
  bool hurry_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace sluice::comm
