#include <cstring>
#include <utility>

#include "base/wire.h"
#include "comm/nccl/nccl_link.h"
#include "comm/nccl/nccl_rank.h"

// What ranks tell one another, and what they do when they hear it.
namespace sluice::comm {
namespace {

enum Word : uint16_t {
  kPosted = PeerMesh::kFirstType,
  kGo,
  kLinkId,
  kGroupId,
  kArrived,
  kAsk,
  kAnswer,
  kMessage,
};

std::vector<std::byte> Number(uint64_t value) {
  WireWriter writer;
  writer.Put(value);
  return writer.Take();
}
uint64_t ReadNumber(const Frame& frame) {
  WireReader reader(frame.payload);
  const auto value = reader.Get<uint64_t>();
  reader.Done();
  return value;
}

std::vector<std::byte> Id(const ncclUniqueId& id) {
  WireWriter writer;
  writer.PutList(std::span<const char>(id.internal));
  return writer.Take();
}
ncclUniqueId ReadId(const Frame& frame) {
  WireReader reader(frame.payload);
  const auto bytes = reader.GetList<char>();
  reader.Done();
  ncclUniqueId id;
  if (bytes.size() != sizeof(id.internal)) {
    Fail(ErrorKind::kRankLost, "an NCCL id of {} bytes came", bytes.size());
  }
  std::memcpy(id.internal, bytes.data(), bytes.size());
  return id;
}

}  // namespace

void NcclRank::Tell(int peer, uint16_t word, uint64_t step, std::vector<std::byte> payload) {
  if (!mesh_.Tell(peer, {word, step, 0, std::move(payload)})) ThrowIfFailed();
}

void NcclRank::TellPosted(int peer, uint64_t slot, uint64_t bytes) {
  Tell(peer, kPosted, slot, Number(bytes));
}
void NcclRank::TellMessage(int peer, uint64_t slot, std::span<const std::byte> bytes) {
  Tell(peer, kMessage, slot, {bytes.begin(), bytes.end()});
}
void NcclRank::TellGo(int peer, uint64_t slot) { Tell(peer, kGo, slot, {}); }
void NcclRank::TellLinkId(int peer, const ncclUniqueId& id) { Tell(peer, kLinkId, 0, Id(id)); }
void NcclRank::TellGroupId(int peer, uint64_t ordinal, const ncclUniqueId& id) {
  Tell(peer, kGroupId, ordinal, Id(id));
}
void NcclRank::TellArrived(int peer, uint64_t ordinal, uint64_t count) {
  Tell(peer, kArrived, ordinal, Number(count));
}

void NcclRank::Hear(int peer, const Frame& frame) {
  switch (frame.type) {
    case kPosted:
      return HearPosted(peer, frame.step, ReadNumber(frame));
    case kMessage:
      return HearMessage(peer, frame.step, frame.payload);
    case kGo:
      return HearGo(peer, frame.step);
    case kLinkId: {
      const ncclUniqueId id = ReadId(frame);
      std::lock_guard lock(mutex_);
      return Link(peers_[peer].outgoing, peer, true).SetId(id);
    }
    case kGroupId: {
      const ncclUniqueId id = ReadId(frame);
      std::lock_guard lock(mutex_);
      peers_[peer].group_ids[frame.step] = id;
      break;
    }
    case kArrived: {
      const uint64_t count = ReadNumber(frame);
      std::lock_guard lock(mutex_);
      peers_[peer].arrived[frame.step] = count;
      break;
    }
    case kAsk:
      return Tell(peer, kAnswer, 0, {});
    case kAnswer: {
      std::lock_guard lock(mutex_);
      ++peers_[peer].answers;
      break;
    }
    default:
      Fail(ErrorKind::kRankLost, "rank {} sent a frame of unknown type {}", peer, frame.type);
  }
  changed_.notify_all();
}

void NcclRank::HearLeft(int peer) {
  std::lock_guard lock(mutex_);
  peers_[peer].left = true;
  changed_.notify_all();
}

void NcclRank::HearPosted(int peer, uint64_t slot, uint64_t bytes) {
  std::unique_lock lock(mutex_);
  Peer& from = peers_[peer];
  const auto found = from.receives.find(slot);
  if (found == from.receives.end()) {
    from.announced[slot].push_back(bytes);
    return;
  }
  auto post = std::move(found->second.front());
  found->second.pop_front();
  if (found->second.empty()) from.receives.erase(found);
  Meet(lock, std::move(post), bytes);
}

void NcclRank::HearMessage(int peer, uint64_t slot, const Payload& message) {
  std::unique_lock lock(mutex_);
  if (failed_) return;  // whoever waited has given up, and his buffer may be gone
  Peer& from = peers_[peer];
  const auto found = from.receives.find(slot);
  if (found == from.receives.end()) {
    from.messages[slot].push_back(message);
    return;
  }
  const auto post = std::move(found->second.front());
  found->second.pop_front();
  if (found->second.empty()) from.receives.erase(found);
  Land(lock, *post, message);
}

void NcclRank::HearGo(int peer, uint64_t slot) {
  std::lock_guard lock(mutex_);
  Peer& to = peers_[peer];
  const auto found = to.sends.find(slot);
  if (found == to.sends.end()) {
    if (failed_) return;
    Fail(ErrorKind::kRankLost, "rank {} asks for slot {:#x}, under which nothing was sent", peer, slot);
  }
  auto post = std::move(found->second.front());
  found->second.pop_front();
  if (found->second.empty()) to.sends.erase(found);
  Link(to.outgoing, peer, true).Push(std::move(post));
}

bool NcclRank::HasArrived(int peer, uint64_t ordinal, uint64_t count) {
  std::lock_guard lock(mutex_);
  return peers_[peer].arrived[ordinal] >= count;
}

bool NcclRank::Answers(int peer, Duration limit) {
  Peer& other = peers_[peer];
  std::unique_lock lock(mutex_);
  const uint64_t before = other.answers;
  lock.unlock();
  Tell(peer, kAsk, 0, {});
  lock.lock();
  return changed_.wait_for(lock, limit, [&] { return other.answers > before; });
}

void NcclRank::AwaitArrived(int peer, uint64_t ordinal, uint64_t count, std::string_view op,
                            Deadline deadline) {
  std::unique_lock lock(mutex_);
  Peer& other = peers_[peer];
  const auto here = [&] { return other.arrived[ordinal] >= count; };
  changed_.wait_until(lock, deadline, [&] { return here() || failed_ || other.left; });
  const bool arrived = here();
  const bool left = other.left;
  lock.unlock();
  ThrowIfFailed();
  if (arrived) return;
  FailWith(left ? fmt::format("rank {} has ended and will not come to \"{}\", where rank {} waits", peer, op,
                              rank_)
                : fmt::format("rank {} did not come to \"{}\" {}", peer, op, TooLate()));
}

ncclUniqueId NcclRank::AwaitGroupId(int peer, uint64_t ordinal, Deadline deadline) {
  std::unique_lock lock(mutex_);
  auto& ids = peers_[peer].group_ids;
  changed_.wait_until(lock, deadline, [&] { return ids.contains(ordinal) || failed_ || peers_[peer].left; });
  if (ids.contains(ordinal) && !failed_) return ids.at(ordinal);
  lock.unlock();
  ThrowIfFailed();
  FailWith(fmt::format("rank {} did not begin its NCCL group with rank {} {}", peer, rank_, TooLate()));
}

}  // namespace sluice::comm
