#include "comm/copy_rank.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace sluice::comm {
namespace {

// For which somebody who has given up waits for a copy to end.
constexpr Duration kLongestGivenUp = std::chrono::seconds(2);

// To the process's end, held: what is only let go of, a search for leaks reports. Without a destructor, for
// the device may end first.
void Keep(std::shared_ptr<void> thing) {
  static auto& mutex = *new std::mutex;
  static auto& kept = *new std::vector<std::shared_ptr<void>>;
  std::lock_guard lock(mutex);
  kept.push_back(std::move(thing));
}

}  // namespace

class CopyRank::CopyTransfer final : public Transfer {
 public:
  CopyTransfer(std::shared_ptr<CopyRank> rank, std::shared_ptr<Half> half)
      : rank_(std::move(rank)), half_(std::move(half)) {}
  ~CopyTransfer() override {
    try {
      if (!waited_) rank_->Await(*half_, [this] { return half_->done; });
    } catch (const Error&) {
      // The failure is the rank's. What is on a stream may still use the buffer.
      std::unique_lock lock(rank_->board_->mutex);
      rank_->board_->changed.wait_for(lock, kLongestGivenUp,
                                      [this] { return half_->done || !half_->enqueued; });
    }
    rank_->GiveLane(*half_);
  }
  void Wait() override {
    rank_->ThrowIfFailed();
    if (!waited_) rank_->Await(*half_, [this] { return half_->done; });
    waited_ = true;
    rank_->GiveLane(*half_);
  }
  bool WaitOn(WorkStream& stream) override {
    if (half_->sending) return false;
    rank_->Await(*half_, [this] { return half_->enqueued; });
    std::unique_lock lock(rank_->board_->mutex);
    const std::shared_ptr<Lane> lane = half_->lane;
    if (lane == nullptr) return true;  // the transfer is complete
    lock.unlock();
    stream.WaitFor(*lane->copied);
    rank_->GiveLane(*half_);
    return true;
  }
  bool Begun() override {
    std::lock_guard lock(rank_->board_->mutex);
    return half_->sending || half_->enqueued;
  }

 private:
  const std::shared_ptr<CopyRank> rank_;
  const std::shared_ptr<Half> half_;
  bool waited_ = false;
};

CopyRank::CopyRank(int rank, int size, std::span<const int> peers, KeyValueStore& store,
                   const std::string& bind, Memory& memory, DeviceSharing& sharing, Duration timeout,
                   std::function<void(const std::string&)> on_failure)
    : rank_(rank),
      timeout_(timeout),
      memory_(memory),
      sharing_(sharing),
      on_failure_(std::move(on_failure)),
      mesh_(rank, size, peers, store, bind, timeout) {
  for (const int peer : peers) {
    peers_[peer].copies = memory_.NewStream();
    peers_[peer].arrivals = memory_.NewStream();
  }
  mesh_.Start(*this);
}

CopyRank::~CopyRank() {
  mesh_.TellLeave();
  mesh_.Close();
  {
    // A peer may just be opening a mark that it was told of.
    std::lock_guard lock(board_->mutex);
    for (auto& [peer, of] : peers_) {
      for (const auto& lane : of.own_lanes) Keep(std::move(lane->free));
      for (const auto& lane : of.lanes) Keep(std::move(lane->copied));
    }
  }
  if (!failed_) return;
  // What they wait for may never come, and they would wait for it.
  for (auto& [peer, of] : peers_) {
    Keep(std::move(of.copies));
    Keep(std::move(of.arrivals));
  }
}

void CopyRank::OfferBuffer(int from, std::span<std::byte> buffer) {
  auto lane = std::make_shared<Lane>();
  lane->free = sharing_.NewMark();
  const DeviceSharing::Name memory = sharing_.NameOf(buffer.data());
  const DeviceSharing::Name mark = sharing_.NameOf(*lane->free);
  {
    std::lock_guard lock(board_->mutex);
    peers_.at(from).own_buffers.push_back(buffer);
    peers_.at(from).own_lanes.push_back(std::move(lane));
  }
  TellBuffer(from, memory, mark);
}

std::unique_ptr<Transfer> CopyRank::SendOn(WorkStream& stream, int to, uint64_t tag,
                                           std::span<const std::byte> buffer) {
  Peer& peer = peers_.at(to);
  auto half = std::make_shared<Half>();
  half->peer = to;
  half->sending = true;
  half->data = const_cast<std::byte*>(buffer.data());  // a send only reads
  half->bytes = buffer.size();
  half->ready = stream.Record();
  std::unique_lock lock(board_->mutex);
  const auto freed = peer.freed.find(tag);
  if (failed_ || freed == peer.freed.end()) {
    if (!failed_) peer.sends[tag].push_back(half);
  } else {
    half->enqueued = true;
    const Free free = freed->second.front();
    freed->second.pop_front();
    if (freed->second.empty()) peer.freed.erase(freed);
    lock.unlock();
    Enqueue(peer, tag, half, free);
  }
  return std::make_unique<CopyTransfer>(shared_from_this(), std::move(half));
}

std::unique_ptr<Transfer> CopyRank::ReceiveOn(WorkStream& stream, int from, uint64_t tag,
                                              std::span<std::byte> buffer) {
  Peer& peer = peers_.at(from);
  const auto offered = std::find_if(peer.own_buffers.begin(), peer.own_buffers.end(),
                                    [&](const auto& own) { return own.data() == buffer.data(); });
  SLUICE_CHECK(offered != peer.own_buffers.end() && buffer.size() <= offered->size(),
               "rank {} receives {} bytes into memory that it has not offered to rank {}", rank_,
               buffer.size(), from);
  const uint32_t lane = TakeLane(from, buffer.size());
  auto half = std::make_shared<Half>();
  half->peer = from;
  half->bytes = buffer.size();
  half->lane = peer.own_lanes[lane];
  sharing_.Record(stream, *half->lane->free);
  {
    std::lock_guard lock(board_->mutex);
    if (!failed_) peer.receives[tag].push_back(half);
  }
  TellFree(from, tag, {buffer.size(), static_cast<uint32_t>(offered - peer.own_buffers.begin()), lane});
  return std::make_unique<CopyTransfer>(shared_from_this(), std::move(half));
}

// As many as buffers were offered, so with one transfer for a buffer there is a free one, or soon: a buffer
// whose rows are on their way already may be posted again.
uint32_t CopyRank::TakeLane(int from, size_t bytes) {
  Half waiting;
  waiting.peer = from;
  waiting.bytes = bytes;
  waiting.enqueued = true;
  auto& lanes = peers_.at(from).own_lanes;
  uint32_t taken = 0;
  Await(waiting, [&] {
    const auto idle = std::find_if(lanes.begin(), lanes.end(), [](const auto& lane) { return !lane->busy; });
    if (idle == lanes.end()) return false;
    (*idle)->busy = true;
    taken = static_cast<uint32_t>(idle - lanes.begin());
    return true;
  });
  return taken;
}

void CopyRank::GiveLane(Half& half) {
  std::lock_guard lock(board_->mutex);
  half.waits_put = true;
  half.EndLane();
  board_->changed.notify_all();
}

// The copy, the mark that the receiver's streams wait for, and only then the word that it is recorded. `send`
// is said to be enqueued already, by whoever took it: else its buffer could be given back meanwhile.
void CopyRank::Enqueue(Peer& peer, uint64_t tag, const std::shared_ptr<Half>& send, const Free& free) {
  if (free.bytes != send->bytes) {
    {
      std::lock_guard lock(board_->mutex);
      send->enqueued = false;
    }
    return FailAll(ErrorKind::kInternal,
                   fmt::format("rank {} sends {} bytes and rank {} expects {} under tag {}", rank_,
                               send->bytes, send->peer, free.bytes, tag));
  }
  {
    std::lock_guard together(peer.enqueuing);
    const Lane& lane = *peer.lanes.at(free.lane);
    peer.copies->WaitFor(*send->ready);
    peer.copies->WaitFor(*lane.free);
    peer.copies->Copy(send->data, peer.buffers.at(free.buffer).get(), static_cast<int64_t>(send->bytes));
    sharing_.Record(*peer.copies, *lane.copied);
    peer.copies->Call([board = board_, send] {
      std::lock_guard lock(board->mutex);
      send->done = true;
      board->changed.notify_all();
    });
    std::lock_guard lock(board_->mutex);
    send->ready.reset();
  }
  TellCopied(send->peer, tag, free.lane);
}

template <typename Reached>
void CopyRank::Await(const Half& half, const Reached& reached) {
  const Deadline deadline = Clock::now() + timeout_;
  std::unique_lock lock(board_->mutex);
  const Peer& peer = peers_.at(half.peer);
  bool done = false;
  board_->changed.wait_until(lock, deadline, [&] {
    done = !failed_ && reached();
    return done || failed_ || (peer.left && !half.enqueued);
  });
  if (done) return;
  const bool left = peer.left && !half.enqueued;
  lock.unlock();
  ThrowIfFailed();
  FailAll(
      ErrorKind::kRankLost,
      left ? fmt::format("rank {} has ended and will not {} the {} bytes that rank {} waits for", half.peer,
                         VerbOf(half), half.bytes, rank_)
           : fmt::format("rank {} did not {} {} bytes {}", half.peer, VerbOf(half), half.bytes, TooLate()));
  ThrowIfFailed();
}

std::string CopyRank::TooLate() const {
  return fmt::format("within {} ms; rank {} has stopped waiting",
                     std::chrono::duration_cast<std::chrono::milliseconds>(timeout_).count(), rank_);
}

// All peers hear it, and theirs from them.
void CopyRank::FailAll(ErrorKind kind, const std::string& sentence) {
  {
    std::lock_guard lock(board_->mutex);
    if (failed_) return;
    failure_kind_ = kind;
    failure_ = sentence;
    failed_ = true;
    board_->changed.notify_all();
  }
  mesh_.TellFailed(kind, sentence);
  if (on_failure_) on_failure_(sentence);
}

void CopyRank::ThrowIfFailed() {
  if (!failed_) return;
  std::lock_guard lock(board_->mutex);
  throw Error(failure_kind_, failure_);
}

}  // namespace sluice::comm
