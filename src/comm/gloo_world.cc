#include "comm/gloo_world.h"

#include <gloo/common/error.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "comm/group_communicator.h"

namespace sluice::comm {
namespace {

using gloo::transport::UnboundBuffer;
using std::chrono::milliseconds;

milliseconds Rounded(Duration duration) {
  return std::max(milliseconds(1), std::chrono::ceil<milliseconds>(duration));
}

// gloo's own words without the source position it begins them with.
std::string Words(const std::exception& error) {
  const std::string_view text = error.what();
  const size_t end = text.find("] ");
  return std::string(text.starts_with('[') && end != std::string_view::npos ? text.substr(end + 2) : text);
}

// gloo asks for a key twice, first by wait and then by get; the second answer comes from here.
class Store final : public gloo::rendezvous::Store {
 public:
  Store(KeyValueStore& store, Deadline deadline) : store_(store), deadline_(deadline) {}

  void set(const std::string& key, const std::vector<char>& data) override {
    store_.Set(prefix_ + key, data);
  }
  std::vector<char> get(const std::string& key) override {
    const auto known = values_.find(key);
    if (known != values_.end()) return known->second;
    const Duration left = std::max<Duration>(deadline_ - Clock::now(), Duration(0));
    return values_[key] = store_.Get(prefix_ + key, left);
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  void wait(const std::vector<std::string>& keys, const milliseconds&) override { wait(keys); }

 private:
  const std::string prefix_ = "gloo/";
  KeyValueStore& store_;
  const Deadline deadline_;
  std::map<std::string, std::vector<char>> values_;
};

// What the transfers of one rank share.
class GlooRank {
 public:
  GlooRank(int rank, Duration timeout, std::shared_ptr<gloo::rendezvous::Context> context)
      : rank_(rank),
        timeout_(timeout),
        context_(std::move(context)),
        ears_(static_cast<size_t>(context_->size)) {
    for (int peer = 0; peer < context_->size; ++peer) {
      if (peer == rank_) continue;
      Ear& ear = ears_[peer];
      ear.words = context_->createUnboundBuffer(&ear.lost, sizeof(ear.lost));
      ear.words->recv(peer, kReservedSlot);
      ear.silence = context_->createUnboundBuffer(&ear.nothing, sizeof(ear.nothing));
      ear.silence->recv(peer, kSilentSlot);
    }
    watcher_ = std::thread([this] { Watch(); });
  }
  ~GlooRank() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    watcher_.join();
  }

  int rank() const { return rank_; }
  Duration timeout() const { return timeout_; }
  std::unique_ptr<UnboundBuffer> NewBuffer(std::byte* data, size_t bytes) {
    return context_->createUnboundBuffer(data, bytes);
  }

  // A wait for `peer` begins; throws the failure if there is one.
  void BeginWait(UnboundBuffer* buffer, int peer) {
    std::lock_guard lock(mutex_);
    if (failed_) throw Error(ErrorKind::kRankLost, failure_);
    waiting_.emplace(buffer, Waiting{peer, false});
  }
  void EndWait(UnboundBuffer* buffer) {
    std::lock_guard lock(mutex_);
    waiting_.erase(buffer);
  }

  // For a transfer that is given up: for as long as the connections live, gloo's thread would look for the
  // buffer that is gone.
  void CloseAll() {
    std::call_once(closed_, [&] { context_->closeConnections(); });
  }

  // The first failure stays, and ends every wait under way. True for the first.
  bool FailAll(std::string_view reason) {
    std::lock_guard lock(mutex_);
    if (failed_) return false;
    failed_ = true;
    failure_ = reason;
    for (auto& [buffer, wait] : waiting_) End(*buffer);
    return true;
  }

  void ThrowIfFailed() {
    std::lock_guard lock(mutex_);
    if (failed_) throw Error(ErrorKind::kRankLost, failure_);
  }

  // The connection to `peer` broke. A rank that gives up because another was lost breaks its connections as
  // well; its last words, if they came, say who was lost first.
  void FailLost(int peer, const std::string& words) {
    const int lost = HeardFrom(peer);
    if (lost < 0) {
      if (FailAll(fmt::format("rank {} lost its data connection to rank {}: {}", rank_, peer, words)))
        TellAll(peer);
    } else if (FailAll(fmt::format("rank {} lost its data connection to rank {} and told rank {}", peer, lost,
                                   rank_))) {
      TellAll(lost);
    }
  }

 private:
  static constexpr uint64_t kSilentSlot = kReservedSlot - 1;
  static constexpr milliseconds kWatchEvery{150};

  // What is heard from one peer beside the transfers.
  struct Ear {
    int32_t lost = -1;
    std::unique_ptr<UnboundBuffer> words;  // fills `lost` when the peer gives up
    int32_t nothing = 0;
    std::unique_ptr<UnboundBuffer> silence;  // never filled: knows only of the connection's end
  };
  struct Waiting {
    int peer = -1;
    bool seen_broken = false;
  };

  static void End(UnboundBuffer& buffer) {
    buffer.abortWaitRecv();
    buffer.abortWaitSend();
  }

  // gloo tells the end of a connection to every transfer but the one whose bytes are just on their way, which
  // would wait for the whole limit. A wait that is still there one look after its connection was seen broken
  // is such a one. (A transfer that completed before the peer left ends its wait long before the second
  // look.)
  void Watch() {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, kWatchEvery, [&] { return stopping_; })) {
      for (auto& [buffer, wait] : waiting_) {
        if (!IsBroken(wait.peer)) continue;
        if (wait.seen_broken) End(*buffer);
        wait.seen_broken = true;
      }
    }
  }

  // A wait that was aborted beforehand returns at once, and throws when the connection has ended.
  bool IsBroken(int peer) {
    UnboundBuffer& silence = *ears_[peer].silence;
    try {
      silence.abortWaitRecv();
      silence.waitRecv(nullptr, milliseconds(1));
      return false;
    } catch (const std::exception&) {
      return true;
    }
  }

  // The rank that `peer` said it lost, or -1. Its connection is broken, so this ends at once: the words are
  // here, or the buffer they were to come to knows of the end.
  int HeardFrom(int peer) {
    try {
      const bool heard = ears_[peer].words->waitRecv(nullptr, milliseconds(100));
      const int lost = ears_[peer].lost;
      return heard && lost >= 0 && lost < context_->size && lost != rank_ ? lost : -1;
    } catch (const std::exception&) {
      return -1;
    }
  }

  void TellAll(int32_t lost) {
    said_ = lost;
    for (int peer = 0; peer < context_->size; ++peer) {
      if (peer == rank_ || peer == lost) continue;
      try {
        saying_.push_back(context_->createUnboundBuffer(&said_, sizeof(said_)));
        saying_.back()->send(peer, kReservedSlot);
      } catch (const std::exception&) {
        // That rank is gone as well.
      }
    }
  }

  const int rank_;
  const Duration timeout_;
  const std::shared_ptr<gloo::rendezvous::Context> context_;
  std::vector<Ear> ears_;  // per peer
  int32_t said_ = -1;
  std::vector<std::unique_ptr<UnboundBuffer>> saying_;

  std::mutex mutex_;
  bool failed_ = false;
  std::string failure_;
  std::unordered_map<UnboundBuffer*, Waiting> waiting_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::once_flag closed_;
  std::thread watcher_;
};

class GlooTransfer final : public Transfer {
 public:
  GlooTransfer(std::shared_ptr<GlooRank> self, int peer, bool sending, uint64_t slot, std::byte* data,
               size_t bytes)
      : self_(std::move(self)), peer_(peer), sending_(sending), buffer_(self_->NewBuffer(data, bytes)) {
    self_->ThrowIfFailed();
    try {
      if (sending) {
        buffer_->send(peer, slot);
      } else {
        buffer_->recv(peer, slot);
      }
    } catch (const std::exception& error) {
      self_->FailLost(peer, Words(error));
      // Nothing may be under way whose end would close them, and the others wait for this rank.
      self_->CloseAll();
      self_->ThrowIfFailed();
    }
  }

  ~GlooTransfer() override {
    try {
      if (!done_) Wait();
    } catch (const Error&) {
      // The failure is the rank's, and its other waits tell it.
    }
    if (!done_) self_->CloseAll();
  }

  void Wait() override {
    if (!done_) Await();
    self_->ThrowIfFailed();
  }

 private:
  void Await() {
    const Deadline deadline = Clock::now() + self_->timeout();
    self_->BeginWait(buffer_.get(), peer_);
    std::string words = "the connection has ended";
    try {
      const milliseconds limit = Rounded(self_->timeout());
      done_ = sending_ ? buffer_->waitSend(nullptr, limit) : buffer_->waitRecv(nullptr, limit);
    } catch (const std::exception& error) {
      words = Words(error);
    }
    self_->EndWait(buffer_.get());
    if (done_) return;
    self_->ThrowIfFailed();
    if (Clock::now() >= deadline) {
      self_->FailAll(TooLate());
    } else {
      self_->FailLost(peer_, words);
    }
  }

  std::string TooLate() const {
    return fmt::format("rank {} did not {} {} bytes within {} ms; rank {} has stopped waiting", peer_,
                       sending_ ? "take" : "send", buffer_->size,
                       std::chrono::duration_cast<milliseconds>(self_->timeout()).count(), self_->rank());
  }

  const std::shared_ptr<GlooRank> self_;
  const int peer_;
  const bool sending_;
  const std::unique_ptr<UnboundBuffer> buffer_;
  bool done_ = false;
};

class GlooEndpoint final : public Endpoint {
 public:
  explicit GlooEndpoint(std::shared_ptr<GlooRank> self) : self_(std::move(self)) {}

  std::unique_ptr<Transfer> Send(int to, uint64_t slot, std::span<const std::byte> buffer) override {
    // gloo has one kind of buffer for both directions; a send only reads it.
    return std::make_unique<GlooTransfer>(self_, to, true, slot, const_cast<std::byte*>(buffer.data()),
                                          buffer.size());
  }
  std::unique_ptr<Transfer> Receive(int from, uint64_t slot, std::span<std::byte> buffer) override {
    return std::make_unique<GlooTransfer>(self_, from, false, slot, buffer.data(), buffer.size());
  }
  void Abort(std::string_view reason) override { self_->FailAll(reason); }

 private:
  const std::shared_ptr<GlooRank> self_;
};

// The device's thread only tries a connection's lock, and when it is taken looks again at once. A wake-up
// that preempts the very thread that holds the lock then spins to the end of its time slice, milliseconds for
// every all-gather when cores are scarce. A batch thread does not preempt when it wakes; threads inherit the
// policy of the one that makes them.
std::shared_ptr<gloo::transport::Device> MakeDevice(const gloo::transport::tcp::attr& attributes) {
  return std::async(std::launch::async,
                    [&] {
                      const sched_param none{};
                      pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
                      return gloo::transport::tcp::CreateDevice(attributes);
                    })
      .get();
}

std::shared_ptr<gloo::transport::Device> OpenDevice(int rank, const std::string& bind) {
  gloo::transport::tcp::attr attributes;
  (if_nametoindex(bind.c_str()) != 0 ? attributes.iface : attributes.hostname) = bind;
  try {
    return MakeDevice(attributes);
  } catch (const std::exception& error) {
    Fail(ErrorKind::kNetwork, "rank {} cannot use \"{}\", which is no address or interface of this host: {}",
         rank, bind, Words(error));
  }
}

}  // namespace

std::unique_ptr<Communicator> MakeGlooWorld(int rank, int size, KeyValueStore& store, const std::string& bind,
                                            Duration timeout) {
  SLUICE_CHECK(rank >= 0 && rank < size && timeout > Duration(0), "rank {} of {}", rank, size);
  auto context = std::make_shared<gloo::rendezvous::Context>(rank, size);
  // gloo writes to its connections without MSG_NOSIGNAL: a lost peer would end this process silently.
  signal(SIGPIPE, SIG_IGN);
  auto device = OpenDevice(rank, bind);
  // gloo waits five times its limit for a connection.
  context->setTimeout(Rounded(timeout / 5));
  Store addresses(store, Clock::now() + timeout);
  try {
    context->connectFullMesh(addresses, device);
    auto self = std::make_shared<GlooRank>(rank, timeout, std::move(context));
    return MakeWorldCommunicator(std::make_shared<GlooEndpoint>(std::move(self)), rank, size);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    Fail(ErrorKind::kNetwork, "rank {} at {} could not connect to the other ranks: {}", rank, bind,
         Words(error));
  }
}

}  // namespace sluice::comm
