#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "comm/communicator.h"
#include "comm/peer_mesh.h"
#include "tensor/device_sharing.h"
#include "tensor/memory.h"

namespace sluice::comm {

// One rank's side of copies into the memory of other processes of its host. Ranks tell one another over a
// PeerMesh
//   receiver -> sender  kBuffer  at start: the names of a buffer and of a mark, "free"
//   sender -> receiver  kMark    the answer: the name of a mark, "copied"
//   receiver -> sender  kFree    this buffer is for the rows of this tag; this lane's "free" is recorded
//   sender -> receiver  kCopied  the copy is on a stream; the lane's "copied" is recorded behind it
// and, in the mesh's own words, the sentence that ended a rank, which ends the others as well, and that a
// rank will not post any more.
//
// A lane is a pair of marks, for one transfer at a time. The sender's copy stream waits for the first and for
// the rows, copies, and records the second. Each side has its streams wait only once it has heard that the
// other's mark is recorded, so for nothing that has not begun. The receiver uses a lane again when its
// streams are told to wait and one of its own has passed the second mark: the copy is over then, and neither
// mark is asked for any more.
class CopyRank : public std::enable_shared_from_this<CopyRank>, private PeerMesh::Handler {
 public:
  // `peers`: the ranks of the world that copy to this one or are copied to, each of which names this one.
  // `on_failure`: called once, with the first failure's sentence. Throws as PeerMesh.
  CopyRank(int rank, int size, std::span<const int> peers, KeyValueStore& store, const std::string& bind,
           Memory& memory, DeviceSharing& sharing, Duration timeout,
           std::function<void(const std::string&)> on_failure);
  ~CopyRank() override;
  CopyRank(const CopyRank&) = delete;
  CopyRank& operator=(const CopyRank&) = delete;

  // As Communicator's. The buffers are not empty.
  void OfferBuffer(int from, std::span<std::byte> buffer);
  std::unique_ptr<Transfer> SendOn(WorkStream& stream, int to, uint64_t tag,
                                   std::span<const std::byte> buffer);
  std::unique_ptr<Transfer> ReceiveOn(WorkStream& stream, int from, uint64_t tag,
                                      std::span<std::byte> buffer);
  void Abort(std::string_view reason) { FailAll(ErrorKind::kRankLost, std::string(reason)); }

 private:
  class CopyTransfer;

  // What is told of transfers by threads of the driver's, which may be the last to know of this rank.
  struct Board {
    std::mutex mutex;
    std::condition_variable changed;
  };
  // A pair of marks, of which this process has made one; guarded by the board.
  struct Lane {
    std::unique_ptr<StreamMark> free;
    std::unique_ptr<StreamMark> copied;
    bool busy = false;
  };
  // A transfer as this side has posted it; guarded by the board.
  struct Half {
    int peer = -1;
    bool sending = false;
    std::byte* data = nullptr;  // only read when sending
    size_t bytes = 0;
    std::shared_ptr<Lane> lane;
    std::unique_ptr<StreamMark> ready;  // of a send: behind what computes the rows
    bool enqueued = false;              // the copy is on the sender's stream, or being put there
    bool done = false;
    bool waits_put = false;  // of a receive: no stream is to be told any more to wait for its lane

    // The lane is free for the next transfer.
    void EndLane() {
      if (lane == nullptr || !done || !waits_put) return;
      lane->busy = false;
      lane.reset();
    }
  };
  // The receiver's side of a transfer, as the sender has heard of it.
  struct Free {
    uint64_t bytes = 0;
    uint32_t buffer = 0;
    uint32_t lane = 0;
  };
  // Both directions between this rank and a peer. What grows at start does not change later.
  struct Peer {
    // To it.
    std::mutex enqueuing;  // a copy and what belongs to it are put on the stream together
    std::vector<std::shared_ptr<std::byte>> buffers;
    std::vector<std::shared_ptr<Lane>> lanes;
    std::map<uint64_t, std::deque<std::shared_ptr<Half>>> sends;  // whose buffer is not free yet
    std::map<uint64_t, std::deque<Free>> freed;                   // whose rows are not sent yet
    // From it.
    std::vector<std::span<std::byte>> own_buffers;
    std::vector<std::shared_ptr<Lane>> own_lanes;
    std::map<uint64_t, std::deque<std::shared_ptr<Half>>> receives;
    bool left = false;
    // Last: what is on them uses the above.
    std::unique_ptr<WorkStream> copies;
    std::unique_ptr<WorkStream> arrivals;
  };

  void Hear(int peer, const Frame& frame) override;
  void HearLeft(int peer) override;
  void HearFailed(ErrorKind kind, const std::string& sentence) override { FailAll(kind, sentence); }
  void HearLost(const std::string& sentence) override { FailAll(ErrorKind::kRankLost, sentence); }
  void HearBuffer(int peer, const Frame& frame);
  void HearMark(int peer, const Frame& frame);
  void HearFree(int peer, const Frame& frame);
  void HearCopied(int peer, const Frame& frame);
  void Tell(int peer, uint16_t word, uint64_t step, std::vector<std::byte> payload);
  void TellBuffer(int peer, const DeviceSharing::Name& memory, const DeviceSharing::Name& free);
  void TellMark(int peer, uint64_t lane, const DeviceSharing::Name& copied);
  void TellFree(int peer, uint64_t tag, const Free& free);
  void TellCopied(int peer, uint64_t tag, uint32_t lane);
  void Enqueue(Peer& peer, uint64_t tag, const std::shared_ptr<Half>& send, const Free& free);
  uint32_t TakeLane(int from, size_t bytes);
  void GiveLane(Half& half);

  // Blocks until `reached`, asked with the board locked; otherwise this rank has failed, and its first
  // failure is thrown.
  template <typename Reached>
  void Await(const Half& half, const Reached& reached);
  void FailAll(ErrorKind kind, const std::string& sentence);
  void ThrowIfFailed();
  std::string TooLate() const;
  static constexpr const char* VerbOf(const Half& half) { return half.sending ? "take" : "send"; }

  const int rank_;
  const Duration timeout_;
  Memory& memory_;
  DeviceSharing& sharing_;
  const std::function<void(const std::string&)> on_failure_;
  const std::shared_ptr<Board> board_ = std::make_shared<Board>();
  std::map<int, Peer> peers_;
  std::atomic<bool> failed_ = false;
  ErrorKind failure_kind_ = ErrorKind::kRankLost;
  std::string failure_;
  PeerMesh mesh_;  // last: its threads use everything above
};

}  // namespace sluice::comm
