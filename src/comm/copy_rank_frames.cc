#include <utility>

#include "base/wire.h"
#include "comm/copy_rank.h"

// What ranks that copy tell one another, and what they do when they hear it.
namespace sluice::comm {
namespace {

enum CopyWord : uint16_t {
  kBuffer = PeerMesh::kFirstType,
  kMark,
  kFree,
  kCopied,
};

void PutName(WireWriter& writer, const DeviceSharing::Name& name) {
  writer.PutList(std::span<const std::byte>(name));
}

template <typename T>
std::shared_ptr<T> TakeFirst(std::map<uint64_t, std::deque<std::shared_ptr<T>>>& of, uint64_t tag) {
  const auto found = of.find(tag);
  if (found == of.end()) return nullptr;
  auto first = std::move(found->second.front());
  found->second.pop_front();
  if (found->second.empty()) of.erase(found);
  return first;
}

}  // namespace

void CopyRank::Tell(int peer, uint16_t word, uint64_t step, std::vector<std::byte> payload) {
  if (!failed_) mesh_.Tell(peer, {word, step, 0, std::move(payload)});
}

void CopyRank::TellBuffer(int peer, const DeviceSharing::Name& memory, const DeviceSharing::Name& free) {
  WireWriter writer;
  PutName(writer, memory);
  PutName(writer, free);
  Tell(peer, kBuffer, 0, writer.Take());
}

void CopyRank::TellMark(int peer, uint64_t lane, const DeviceSharing::Name& copied) {
  WireWriter writer;
  PutName(writer, copied);
  Tell(peer, kMark, lane, writer.Take());
}

void CopyRank::TellFree(int peer, uint64_t tag, const Free& free) {
  WireWriter writer;
  writer.Put(free.bytes);
  writer.Put(free.buffer);
  writer.Put(free.lane);
  Tell(peer, kFree, tag, writer.Take());
}

void CopyRank::TellCopied(int peer, uint64_t tag, uint32_t lane) {
  WireWriter writer;
  writer.Put(lane);
  Tell(peer, kCopied, tag, writer.Take());
}

void CopyRank::Hear(int peer, const Frame& frame) {
  if (failed_) return;
  try {
    switch (frame.type) {
      case kBuffer:
        return HearBuffer(peer, frame);
      case kMark:
        return HearMark(peer, frame);
      case kFree:
        return HearFree(peer, frame);
      case kCopied:
        return HearCopied(peer, frame);
      default:
        Fail(ErrorKind::kRankLost, "rank {} sent a frame of unknown type {}", peer, frame.type);
    }
  } catch (const Error& error) {
    FailAll(error.kind(), error.what());
  } catch (const std::exception& error) {  // it names what this rank does not have
    FailAll(ErrorKind::kRankLost,
            fmt::format("rank {} sent a frame that rank {} cannot follow: {}", peer, rank_, error.what()));
  }
}

void CopyRank::HearLeft(int peer) {
  std::lock_guard lock(board_->mutex);
  peers_.at(peer).left = true;
  board_->changed.notify_all();
}

void CopyRank::HearBuffer(int peer, const Frame& frame) {
  WireReader reader(frame.payload.bytes());
  const auto memory = reader.GetList<std::byte>();
  const auto mark = reader.GetList<std::byte>();
  reader.Done();
  auto buffer = sharing_.Open(memory);
  auto lane = std::make_shared<Lane>();
  lane->free = sharing_.OpenMark(mark);
  lane->copied = sharing_.NewMark();
  const DeviceSharing::Name copied = sharing_.NameOf(*lane->copied);
  uint64_t number = 0;
  {
    std::lock_guard lock(board_->mutex);
    Peer& of = peers_.at(peer);
    number = of.lanes.size();
    of.buffers.push_back(std::move(buffer));
    of.lanes.push_back(std::move(lane));
  }
  TellMark(peer, number, copied);
}

void CopyRank::HearMark(int peer, const Frame& frame) {
  WireReader reader(frame.payload.bytes());
  const auto name = reader.GetList<std::byte>();
  reader.Done();
  auto mark = sharing_.OpenMark(name);
  std::lock_guard lock(board_->mutex);
  peers_.at(peer).own_lanes.at(frame.step)->copied = std::move(mark);
}

void CopyRank::HearFree(int peer, const Frame& frame) {
  WireReader reader(frame.payload.bytes());
  Free free;
  free.bytes = reader.Get<uint64_t>();
  free.buffer = reader.Get<uint32_t>();
  free.lane = reader.Get<uint32_t>();
  reader.Done();
  Peer& of = peers_.at(peer);
  std::shared_ptr<Half> send;
  {
    std::lock_guard lock(board_->mutex);
    if (failed_) return;  // its buffer may be gone
    send = TakeFirst(of.sends, frame.step);
    if (send == nullptr) {
      of.freed[frame.step].push_back(free);
      return;
    }
    send->enqueued = true;
  }
  Enqueue(of, frame.step, send, free);
}

void CopyRank::HearCopied(int peer, const Frame& frame) {
  WireReader reader(frame.payload.bytes());
  const auto lane = reader.Get<uint32_t>();
  reader.Done();
  Peer& of = peers_.at(peer);
  std::shared_ptr<Half> receive;
  {
    std::lock_guard lock(board_->mutex);
    receive = TakeFirst(of.receives, frame.step);
    if (receive == nullptr || of.own_lanes.at(lane) != receive->lane) {
      Fail(ErrorKind::kRankLost, "rank {} has copied to rank {} what it did not wait for, under tag {}", peer,
           rank_, frame.step);
    }
  }
  of.arrivals->WaitFor(*receive->lane->copied);
  of.arrivals->Call([board = board_, receive] {
    std::lock_guard lock(board->mutex);
    receive->done = true;
    receive->EndLane();
    board->changed.notify_all();
  });
  std::lock_guard lock(board_->mutex);
  receive->enqueued = true;
  board_->changed.notify_all();
}

}  // namespace sluice::comm
