#include "comm/gloo_world.h"

#include <gloo/common/error.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>
#include <net/if.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "comm/group_communicator.h"

namespace sluice::comm {
namespace {

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
    store_.Set(kPrefix + key, data);
  }
  std::vector<char> get(const std::string& key) override {
    const auto known = values_.find(key);
    if (known != values_.end()) return known->second;
    const Duration left = std::max<Duration>(deadline_ - Clock::now(), Duration(0));
    return values_[key] = store_.Get(kPrefix + key, left);
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  void wait(const std::vector<std::string>& keys, const milliseconds&) override { wait(keys); }

 private:
  static constexpr const char* kPrefixText = "gloo/";
  const std::string kPrefix = kPrefixText;
  KeyValueStore& store_;
  const Deadline deadline_;
  std::map<std::string, std::vector<char>> values_;
};

// What the transfers of one rank share.
struct GlooRank {
  int rank = 0;
  Duration timeout{};
  std::shared_ptr<gloo::rendezvous::Context> context;

  std::mutex mutex;
  bool failed = false;
  std::string failure;
  std::unordered_set<gloo::transport::UnboundBuffer*> under_way;
  std::once_flag closed;

  // The first failure stays, and ends every wait under way.
  void FailAll(std::string_view reason) {
    std::lock_guard lock(mutex);
    if (failed) return;
    failed = true;
    failure = reason;
    for (auto* buffer : under_way) {
      buffer->abortWaitRecv();
      buffer->abortWaitSend();
    }
  }
  void ThrowIfFailed() {
    std::lock_guard lock(mutex);
    if (failed) throw Error(ErrorKind::kRankLost, failure);
  }
};

class GlooTransfer final : public Transfer {
 public:
  GlooTransfer(std::shared_ptr<GlooRank> self, int peer, bool sending, uint64_t slot, std::byte* data,
               size_t bytes)
      : self_(std::move(self)),
        peer_(peer),
        sending_(sending),
        buffer_(self_->context->createUnboundBuffer(data, bytes)) {
    self_->ThrowIfFailed();
    try {
      if (sending) {
        buffer_->send(peer, slot);
      } else {
        buffer_->recv(peer, slot);
      }
    } catch (const std::exception& error) {
      self_->FailAll(Closed(error));
      self_->ThrowIfFailed();
    }
    std::lock_guard lock(self_->mutex);
    self_->under_way.insert(buffer_.get());
  }

  ~GlooTransfer() override {
    try {
      if (!done_) Wait();
    } catch (const Error&) {
      // The failure is the rank's, and its other waits tell it.
    }
    {
      std::lock_guard lock(self_->mutex);
      self_->under_way.erase(buffer_.get());
    }
    // gloo's thread would look for a buffer that is gone for as long as its connection lives.
    if (!done_) std::call_once(self_->closed, [&] { self_->context->closeConnections(); });
  }

  void Wait() override {
    self_->ThrowIfFailed();
    if (done_) return;
    const Deadline deadline = Clock::now() + self_->timeout;
    try {
      const milliseconds limit = Rounded(self_->timeout);
      done_ = sending_ ? buffer_->waitSend(nullptr, limit) : buffer_->waitRecv(nullptr, limit);
    } catch (const std::exception& error) {
      self_->FailAll(Clock::now() >= deadline ? TooLate() : Closed(error));
    }
    self_->ThrowIfFailed();
  }

 private:
  std::string Closed(const std::exception& error) const {
    return fmt::format("rank {} lost its data connection to rank {}: {}", self_->rank, peer_, Words(error));
  }
  std::string TooLate() const {
    return fmt::format("rank {} did not {} {} bytes within {} ms; rank {} has stopped waiting", peer_,
                       sending_ ? "take" : "send", buffer_->size,
                       std::chrono::duration_cast<milliseconds>(self_->timeout).count(), self_->rank);
  }

  const std::shared_ptr<GlooRank> self_;
  const int peer_;
  const bool sending_;
  const std::unique_ptr<gloo::transport::UnboundBuffer> buffer_;
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

std::shared_ptr<gloo::transport::Device> OpenDevice(int rank, const std::string& bind) {
  gloo::transport::tcp::attr attributes;
  (if_nametoindex(bind.c_str()) != 0 ? attributes.iface : attributes.hostname) = bind;
  try {
    return gloo::transport::tcp::CreateDevice(attributes);
  } catch (const std::exception& error) {
    Fail(ErrorKind::kNetwork, "rank {} cannot use \"{}\", which is no address or interface of this host: {}",
         rank, bind, Words(error));
  }
}

}  // namespace

std::unique_ptr<Communicator> MakeGlooWorld(int rank, int size, KeyValueStore& store, const std::string& bind,
                                            Duration timeout) {
  SLUICE_CHECK(rank >= 0 && rank < size && timeout > Duration(0), "rank {} of {}", rank, size);
  auto self = std::make_shared<GlooRank>();
  self->rank = rank;
  self->timeout = timeout;
  self->context = std::make_shared<gloo::rendezvous::Context>(rank, size);
  auto device = OpenDevice(rank, bind);
  // gloo waits five times its limit for a connection.
  self->context->setTimeout(Rounded(timeout / 5));
  Store addresses(store, Clock::now() + timeout);
  try {
    self->context->connectFullMesh(addresses, device);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    Fail(ErrorKind::kNetwork, "rank {} at {} could not connect to the other ranks: {}", rank, bind,
         Words(error));
  }
  return MakeWorldCommunicator(std::make_shared<GlooEndpoint>(std::move(self)), rank, size);
}

}  // namespace sluice::comm
