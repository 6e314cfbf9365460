#include "comm/peer_mesh.h"

#include <algorithm>
#include <random>
#include <set>
#include <utility>

#include "base/wire.h"
#include "comm/socket_channel.h"

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;

// The first frame of a connection: who connects (in `step`) and the number its listener asks for.
constexpr uint16_t kHere = 1;
constexpr uint16_t kLeft = 2;
constexpr uint16_t kHasFailed = 3;
// What ranks tell one another is short; the longest is the tokens of a step.
constexpr size_t kLongestPayload = size_t{1} << 20;
constexpr milliseconds kFirstFrame{2000};
constexpr milliseconds kConnectEvery{20};
constexpr milliseconds kLook{1000};

std::string Key(int rank) { return fmt::format("mesh/{}", rank); }

Duration Left(Deadline deadline) { return std::max<Duration>(deadline - Clock::now(), Duration(0)); }

std::vector<char> RandomNumber() {
  std::random_device random;
  std::vector<char> number(16);
  for (char& byte : number) byte = static_cast<char>(random());
  return number;
}

std::vector<int> AllBut(int rank, int size) {
  std::vector<int> others;
  for (int peer = 0; peer < size; ++peer) {
    if (peer != rank) others.push_back(peer);
  }
  return others;
}

struct Invitation {
  std::string address;
  std::vector<char> number;
};

std::vector<char> EncodeInvitation(const Invitation& invitation) {
  WireWriter writer;
  writer.PutString(invitation.address);
  writer.PutList(std::span<const char>(invitation.number));
  const auto bytes = writer.Take();
  std::vector<char> text(bytes.size());
  std::memcpy(text.data(), bytes.data(), bytes.size());
  return text;
}

Invitation DecodeInvitation(const std::vector<char>& text) {
  WireReader reader(std::as_bytes(std::span(text)));
  Invitation invitation;
  invitation.address = reader.GetString();
  invitation.number = reader.GetList<char>();
  reader.Done();
  return invitation;
}

// The rank that a connection says it is; -1 when it does not know the number or says nothing.
int Identify(Channel& channel, const std::vector<char>& number, Duration timeout) {
  try {
    channel.LimitReceived(number.size());
    const auto frame = channel.Receive(timeout);
    channel.LimitReceived(kLongestPayload);
    if (!frame.has_value() || frame->type != kHere) return -1;
    const auto bytes = std::as_bytes(std::span(number));
    if (!std::equal(frame->payload.begin(), frame->payload.end(), bytes.begin(), bytes.end())) return -1;
    return frame->step > INT32_MAX ? -1 : static_cast<int>(frame->step);
  } catch (const Error&) {
    return -1;
  }
}

}  // namespace

PeerMesh::PeerMesh(int rank, int size, KeyValueStore& store, const std::string& bind, Duration timeout)
    : PeerMesh(rank, size, AllBut(rank, size), store, bind, timeout) {}

PeerMesh::PeerMesh(int rank, int size, std::span<const int> peers, KeyValueStore& store,
                   const std::string& bind, Duration timeout)
    : rank_(rank), channels_(static_cast<size_t>(size)), left_(static_cast<size_t>(size)) {
  SLUICE_CHECK(rank >= 0 && rank < size && timeout > Duration(0), "rank {} of {}", rank, size);
  const Deadline deadline = Clock::now() + timeout;
  Listener listener(Address{"", AddressOf(bind), 0});
  const std::vector<char> number = RandomNumber();
  store.Set(Key(rank), EncodeInvitation({listener.address().ToString(), number}));
  std::set<int> missing;  // those that connect to this one
  for (const int peer : peers) {
    SLUICE_CHECK(peer >= 0 && peer < size && peer != rank, "rank {} of {} has no peer {}", rank, size, peer);
    if (peer < rank) {
      Connect(peer, store, deadline);
    } else {
      missing.insert(peer);
    }
  }
  while (!missing.empty()) {
    auto channel = listener.Accept("a rank that connects", Left(deadline));
    if (channel == nullptr) {
      if (Clock::now() < deadline) continue;
      Fail(ErrorKind::kRankLost, "rank {} did not connect to rank {} within {} ms", *missing.begin(), rank,
           std::chrono::duration_cast<milliseconds>(timeout).count());
    }
    const int peer = Identify(*channel, number, std::min<Duration>(kFirstFrame, Left(deadline)));
    if (missing.erase(peer) == 0) continue;
    channel->SetPeer(fmt::format("rank {}", peer));
    channels_[peer] = std::move(channel);
  }
}

PeerMesh::~PeerMesh() { Close(); }

void PeerMesh::Connect(int peer, KeyValueStore& store, Deadline deadline) {
  const Invitation invitation = DecodeInvitation(store.Get(Key(peer), Left(deadline)));
  const Address address = ParseAddress(invitation.address);
  while ((channels_[peer] = TryConnect(address, fmt::format("rank {}", peer), Left(deadline))) == nullptr) {
    if (Clock::now() >= deadline) {
      Fail(ErrorKind::kRankLost, "rank {} could not connect to rank {} at {} in time", rank_, peer,
           invitation.address);
    }
    std::this_thread::sleep_for(kConnectEvery);
  }
  channels_[peer]->LimitReceived(kLongestPayload);
  const auto bytes = std::as_bytes(std::span(invitation.number));
  channels_[peer]->Send({kHere, static_cast<uint64_t>(rank_), 0, {bytes.begin(), bytes.end()}});
}

void PeerMesh::Start(Handler& handler) {
  SLUICE_CHECK(handler_ == nullptr, "a mesh is started once");
  handler_ = &handler;
  for (size_t peer = 0; peer < channels_.size(); ++peer) {
    if (channels_[peer] != nullptr) readers_.emplace_back([this, peer] { Read(static_cast<int>(peer)); });
  }
}

bool PeerMesh::Tell(int peer, const Frame& frame) {
  try {
    channels_[peer]->Send(frame);
  } catch (const Error& error) {
    if (left_[peer]) return true;
    Lost(peer, error.what());
    return false;
  }
  return true;
}

void PeerMesh::TellLeave() { TellAll({kLeft, 0, 0, {}}); }

void PeerMesh::TellFailed(ErrorKind kind, const std::string& sentence) {
  WireWriter writer;
  writer.Put(kind);
  writer.PutString(sentence);
  TellAll({kHasFailed, 0, 0, writer.Take()});
}

void PeerMesh::TellAll(const Frame& frame) {
  for (const auto& channel : channels_) {
    try {
      if (channel != nullptr) channel->Send(frame);
    } catch (const Error&) {
      // That rank is gone as well.
    }
  }
}

void PeerMesh::Close() {
  closing_ = true;
  for (const auto& channel : channels_) {
    if (channel != nullptr) channel->Close();
  }
  for (std::thread& reader : readers_) {
    if (reader.joinable()) reader.join();
  }
}

void PeerMesh::Read(int peer) {
  try {
    while (true) {
      const auto frame = channels_[peer]->Receive(kLook);
      if (frame.has_value()) HearFrom(peer, *frame);
    }
  } catch (const Error& error) {
    if (!closing_ && !left_[peer]) Lost(peer, error.what());
  }
}

void PeerMesh::HearFrom(int peer, const Frame& frame) {
  if (frame.type == kLeft) {
    left_[peer] = true;
    return handler_->HearLeft(peer);
  }
  if (frame.type != kHasFailed) return handler_->Hear(peer, frame);
  WireReader reader(frame.payload.bytes());
  const auto kind = reader.Get<ErrorKind>();
  const std::string sentence = reader.GetString();
  reader.Done();
  handler_->HearFailed(kind, sentence);
}

void PeerMesh::Lost(int peer, const std::string& words) {
  handler_->HearLost(fmt::format("rank {} lost its data connection to rank {}: {}", rank_, peer, words));
}

}  // namespace sluice::comm
