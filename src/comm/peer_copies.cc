#include "comm/peer_copies.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "base/wire.h"
#include "comm/copy_rank.h"
#include "tensor/tensor.h"

namespace sluice::comm {
namespace {

// What a rank lets others try before anything depends on it.
constexpr int64_t kProbeBytes = int64_t{2} << 20;

struct CopyOffer {
  std::string refusal;  // why this rank has nothing to show; empty if it has
  std::string host;
  std::string device;
  DeviceSharing::Name memory;
  DeviceSharing::Name mark;
};

std::vector<char> Text(WireWriter& writer) {
  const std::vector<std::byte> bytes = writer.Take();
  std::vector<char> text(bytes.size());
  std::memcpy(text.data(), bytes.data(), bytes.size());
  return text;
}

std::vector<char> EncodeCopyOffer(const CopyOffer& offer) {
  WireWriter writer;
  writer.PutString(offer.refusal);
  writer.PutString(offer.host);
  writer.PutString(offer.device);
  writer.PutList(std::span<const std::byte>(offer.memory));
  writer.PutList(std::span<const std::byte>(offer.mark));
  return Text(writer);
}

CopyOffer DecodeCopyOffer(const std::vector<char>& text) {
  WireReader reader(std::as_bytes(std::span(text)));
  CopyOffer offer;
  offer.refusal = reader.GetString();
  offer.host = reader.GetString();
  offer.device = reader.GetString();
  offer.memory = reader.GetList<std::byte>();
  offer.mark = reader.GetList<std::byte>();
  reader.Done();
  return offer;
}

// Asks the ranks that this one sends to, and is asked by those that it receives from.
class Introduction {
 public:
  Introduction(Communicator& world, DeviceSharing& sharing, KeyValueStore& store, Duration timeout)
      : rank_(world.rank()), sharing_(sharing), store_(store), deadline_(Clock::now() + timeout) {
    Show(world.memory());
    store_.Set(std::to_string(rank_), EncodeCopyOffer(offer_));
  }

  // Empty when this rank can copy to `peer`.
  std::string WhyNotTo(int peer, bool on_one_device) {
    const CopyOffer other = DecodeCopyOffer(store_.Get(std::to_string(peer), Left()));
    const std::string why = Try(other, on_one_device);
    store_.Set(fmt::format("{}/{}", rank_, peer), std::vector<char>(why.begin(), why.end()));
    return why;
  }
  // Empty when `peer` can copy to this rank; asked once this one's own questions are answered.
  std::string WhyNotFrom(int peer) {
    const auto why = store_.Get(fmt::format("{}/{}", peer, rank_), Left());
    return {why.begin(), why.end()};
  }

 private:
  Duration Left() const { return std::max<Duration>(deadline_ - Clock::now(), Duration(0)); }

  void Show(Memory& memory) {
    try {
      offer_.host = sharing_.Host();
      offer_.device = sharing_.Device();
      probe_ = Buffer(kProbeBytes, memory);
      offer_.memory = sharing_.NameOf(probe_.data());
      mark_ = sharing_.NewMark();
      offer_.mark = sharing_.NameOf(*mark_);
    } catch (const Error& error) {
      offer_.refusal = error.what();
    }
  }

  std::string Try(const CopyOffer& other, bool on_one_device) {
    if (!offer_.refusal.empty()) return offer_.refusal;
    if (!other.refusal.empty()) return other.refusal;
    if (offer_.host != other.host) return "it is on another host";
    if (!on_one_device && offer_.device == other.device) {
      return "it is on the same GPU, where a process whose stream waits takes its turn all the same";
    }
    try {
      if (std::string why = sharing_.WhyNotTo(other.device); !why.empty()) return why;
      sharing_.Open(other.memory);
      sharing_.OpenMark(other.mark);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  const int rank_;
  DeviceSharing& sharing_;
  KeyValueStore& store_;
  const Deadline deadline_;
  CopyOffer offer_;
  Buffer probe_;
  std::unique_ptr<StreamMark> mark_;
};

class PeerCopies final : public Communicator {
 public:
  PeerCopies(std::unique_ptr<Communicator> inner, DeviceSharing& sharing, const CopyEdges& edges,
             KeyValueStore& store, const std::string& bind, Duration timeout)
      : inner_(std::move(inner)),
        to_(edges.to.begin(), edges.to.end()),
        from_(edges.from.begin(), edges.from.end()) {
    std::set<int> both = to_;
    both.insert(from_.begin(), from_.end());
    const std::vector<int> peers(both.begin(), both.end());
    copies_ = std::make_shared<CopyRank>(
        inner_->rank(), inner_->size(), peers, store, bind, inner_->memory(), sharing, timeout,
        [inner = inner_](const std::string& sentence) { inner->Abort(sentence); });
  }

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  int GlobalRank(int group_rank) const override { return inner_->GlobalRank(group_rank); }

  std::unique_ptr<Transfer> Send(int to, uint64_t tag, std::span<const std::byte> buffer) override {
    Fence();
    return inner_->Send(to, tag, buffer);
  }
  std::unique_ptr<Transfer> Receive(int from, uint64_t tag, std::span<std::byte> buffer) override {
    Fence();
    return inner_->Receive(from, tag, buffer);
  }
  std::unique_ptr<Transfer> SendOn(WorkStream& stream, int to, uint64_t tag,
                                   std::span<const std::byte> buffer) override {
    if (!to_.contains(to) || buffer.empty()) return Communicator::SendOn(stream, to, tag, buffer);
    bytes_sent_ += static_cast<int64_t>(buffer.size());
    return copies_->SendOn(stream, to, tag, buffer);
  }
  std::unique_ptr<Transfer> ReceiveOn(WorkStream& stream, int from, uint64_t tag,
                                      std::span<std::byte> buffer) override {
    if (!from_.contains(from) || buffer.empty()) return Communicator::ReceiveOn(stream, from, tag, buffer);
    bytes_received_ += static_cast<int64_t>(buffer.size());
    return copies_->ReceiveOn(stream, from, tag, buffer);
  }
  void OfferBuffer(int from, std::span<std::byte> buffer) override {
    if (from_.contains(from)) copies_->OfferBuffer(from, buffer);
  }

  std::unique_ptr<Communicator> Subgroup(std::span<const int> members) override {
    return inner_->Subgroup(members);
  }
  void Abort(std::string_view reason) override { copies_->Abort(reason); }
  void AllGather(std::string_view op, std::span<const std::byte> mine, std::span<std::byte> all,
                 std::span<const int64_t> bytes) override {
    Inner().AllGather(op, mine, all, bytes);
  }
  void AllToAll(std::string_view op, std::span<const std::span<const std::byte>> send,
                std::span<const std::span<std::byte>> receive) override {
    Inner().AllToAll(op, send, receive);
  }
  void Barrier(std::string_view op) override { Inner().Barrier(op); }
  int64_t bytes_sent() const override { return bytes_sent_ + inner_->bytes_sent(); }
  int64_t bytes_received() const override { return bytes_received_ + inner_->bytes_received(); }
  Memory& memory() override { return inner_->memory(); }
  int sms_of_receives() const override { return inner_->sms_of_receives(); }
  bool ConnectsWhenUsed() const override { return inner_->ConnectsWhenUsed(); }

 private:
  // Its waits and spans are this one's.
  Communicator& Inner() {
    Fence();
    inner_->SetRecorder(recorder_);
    return *inner_;
  }

  const std::shared_ptr<Communicator> inner_;
  const std::set<int> to_;
  const std::set<int> from_;
  std::shared_ptr<CopyRank> copies_;
};

}  // namespace

std::unique_ptr<Communicator> MakePeerCopies(std::unique_ptr<Communicator> inner, DeviceSharing& sharing,
                                             std::span<const int> to, std::span<const int> from,
                                             KeyValueStore& store, const std::string& bind, bool required,
                                             Duration timeout, CopyEdges* edges) {
  PrefixedStore own(store, "copies/");
  CopyEdges found;
  {
    Introduction introduction(*inner, sharing, own, timeout);
    for (const int peer : to) {
      const std::string why = introduction.WhyNotTo(peer, required);
      if (why.empty()) {
        found.to.push_back(peer);
      } else {
        found.not_to.push_back(fmt::format("rank {}: {}", peer, why));
      }
    }
    for (const int peer : from) {
      if (introduction.WhyNotFrom(peer).empty()) found.from.push_back(peer);
    }
  }
  if (edges != nullptr) *edges = found;
  if (required && !found.not_to.empty()) {
    Fail(ErrorKind::kUsage,
         "--hop-receive copy has rank {} copy into the memory of {}: use --hop-receive auto, or plane",
         inner->rank(), found.not_to.front());
  }
  if (found.to.empty() && found.from.empty()) return inner;
  return std::make_unique<PeerCopies>(std::move(inner), sharing, found, own, bind, timeout);
}

}  // namespace sluice::comm
