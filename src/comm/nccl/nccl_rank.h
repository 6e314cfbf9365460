#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "comm/group_communicator.h"
#include "comm/nccl/nccl_comm.h"
#include "comm/peer_mesh.h"

namespace sluice::comm {

class NcclLink;

// The longest send from host memory: the tokens of a step.
inline constexpr size_t kLongestMessage = size_t{512} << 10;

// What one side has posted of a transfer. Once launched only its event changes.
struct NcclPost {
  int peer = -1;
  bool sending = false;
  uint64_t slot = 0;
  std::byte* data = nullptr;  // on the device; only read when sending
  size_t bytes = 0;
  bool on_host = false;  // a message: no event, and launched means that it is there
  std::unique_ptr<DeviceEvent> done;
  std::shared_ptr<NcclComm> comm;  // set when launched
  bool launched = false;           // guarded by the rank's mutex
};

// What the communicators of one rank share. NCCL's transfers carry no tags, occupy SMs while they wait, and
// do not say who is missing; so ranks tell one another over a PeerMesh what they have come to, and a transfer
// is launched when both sides have:
//   sender -> receiver  kPosted  a send of so many bytes is there under this slot
//   receiver -> sender  kGo      the receive is there too: this slot is the link's next transfer
//   receiver -> sender  kLinkId  before the first kGo
//   sender -> receiver  kMessage all bytes of a send from host memory, under this slot
//   leader -> member    kGroupId NCCL's id for the n-th group the two share
//   member -> member    kArrived how many operations of that group this rank has begun
//   anybody -> anybody  kAsk     answered by kAnswer at once, whatever the rank's other threads do
// and, in the mesh's own words, the sentence that ended a rank, which ends the others as well, and that a
// rank will not post any more. Anything else ends the job with a sentence.
class NcclRank final : public Endpoint,
                       public std::enable_shared_from_this<NcclRank>,
                       private PeerMesh::Handler {
 public:
  NcclRank(int rank, int size, KeyValueStore& store, const std::string& bind, const NcclConfig& config,
           Duration timeout);
  ~NcclRank() override;

  // Buffers are memory of this rank's device and must be complete on it when posted; or of the host on both
  // sides, up to kLongestMessage bytes, which travel over the mesh.
  std::unique_ptr<Transfer> Send(int to, uint64_t slot, std::span<const std::byte> buffer) override;
  std::unique_ptr<Transfer> Receive(int from, uint64_t slot, std::span<std::byte> buffer) override;
  void Abort(std::string_view reason) override { FailAll(ErrorKind::kRankLost, std::string(reason)); }
  Memory& memory() override { return config_.memory != nullptr ? *config_.memory : HostMemory(); }
  // Nothing is launched for a receive before its send is there; what waits, waits on the host.
  int sms_of_receives() const override { return 0; }

  int rank() const { return rank_; }
  const NcclConfig& config() const { return config_; }
  Deadline NewDeadline() const { return Clock::now() + timeout_; }
  // "within 300 ms; rank 2 has stopped waiting"
  std::string TooLate() const;

  // Throws Error(kInternal) unless the bytes are memory of this rank's device.
  void RequireDevice(std::string_view what, std::span<const std::byte> bytes) const;

  // The first failure stays; it ends every wait of this rank's, and of the others'.
  void FailAll(ErrorKind kind, const std::string& sentence, bool tell = true);
  void ThrowIfFailed();

  // Groups. `ordinal` is the group's number between this rank and `peer`.
  void TellArrived(int peer, uint64_t ordinal, uint64_t count);
  void AwaitArrived(int peer, uint64_t ordinal, uint64_t count, std::string_view op, Deadline deadline);
  bool HasArrived(int peer, uint64_t ordinal, uint64_t count);
  // Whether the peer's process answers within `limit`; one that was stopped does not.
  bool Answers(int peer, Duration limit);
  void TellGroupId(int peer, uint64_t ordinal, const ncclUniqueId& id);
  ncclUniqueId AwaitGroupId(int peer, uint64_t ordinal, Deadline deadline);

  // The communicator of `members`, ranks of the world, of which this one stands at `place`; ready. When it is
  // not by the deadline, all fails with `late`, a whole sentence.
  std::shared_ptr<NcclComm> MakeComm(const ncclUniqueId& id, const std::vector<int>& members, int place,
                                     Deadline deadline, const std::function<std::string()>& late);
  // Enqueues within the deadline; otherwise all fails with `late`.
  void Launch(NcclComm& comm, const std::function<ncclResult_t(ncclComm_t)>& enqueue, Deadline deadline,
              const std::function<std::string()>& late);
  // Sleeps until the event is complete. Otherwise all fails with `late`, or with what NCCL or CUDA report.
  void AwaitEvent(cudaEvent_t event, NcclComm& comm, Deadline deadline,
                  const std::function<std::string()>& late);

  // For links and transfers.
  void Await(NcclPost& post);
  void Launched(NcclPost& post, std::shared_ptr<NcclComm> comm);
  void TellGo(int peer, uint64_t slot);
  void TellLinkId(int peer, const ncclUniqueId& id);

 private:
  // What is under way between this rank and one other.
  struct Peer {
    std::unordered_map<uint64_t, std::deque<std::shared_ptr<NcclPost>>> sends;     // without a go
    std::unordered_map<uint64_t, std::deque<std::shared_ptr<NcclPost>>> receives;  // without a send
    std::unordered_map<uint64_t, std::deque<uint64_t>> announced;  // bytes of sends without a receive
    std::unordered_map<uint64_t, std::deque<Payload>> messages;    // without a receive
    std::unordered_map<uint64_t, uint64_t> arrived;                // per ordinal
    std::unordered_map<uint64_t, ncclUniqueId> group_ids;          // per ordinal
    std::unique_ptr<NcclLink> incoming;
    std::unique_ptr<NcclLink> outgoing;
    uint64_t answers = 0;
    bool left = false;
  };

  void Tell(int peer, uint16_t word, uint64_t step, std::vector<std::byte> payload);
  void TellMessage(int peer, uint64_t slot, std::span<const std::byte> bytes);
  void TellPosted(int peer, uint64_t slot, uint64_t bytes);
  void Hear(int peer, const Frame& frame) override;
  void HearLeft(int peer) override;
  void HearFailed(ErrorKind kind, const std::string& sentence) override { FailAll(kind, sentence, false); }
  void HearLost(const std::string& sentence) override { FailAll(ErrorKind::kRankLost, sentence); }
  void HearPosted(int peer, uint64_t slot, uint64_t bytes);
  void HearGo(int peer, uint64_t slot);
  void HearMessage(int peer, uint64_t slot, const Payload& message);
  void Meet(std::unique_lock<std::mutex>& lock, std::shared_ptr<NcclPost> receive, uint64_t sent);
  void Land(std::unique_lock<std::mutex>& lock, NcclPost& receive, const Payload& message);
  std::unique_ptr<Transfer> SendMessage(int to, uint64_t slot, std::span<const std::byte> bytes);
  std::unique_ptr<Transfer> ReceiveMessage(int from, uint64_t slot, std::span<std::byte> bytes);
  bool IsOnHost(std::span<const std::byte> bytes) const;
  NcclLink& Link(std::unique_ptr<NcclLink>& link, int peer, bool sending);
  [[noreturn]] void FailBroken(NcclComm& comm, ncclResult_t result);
  [[noreturn]] void FailWith(const std::string& sentence);
  void AbortComms();

  const int rank_;
  const NcclConfig config_;
  const Duration timeout_;
  PeerMesh mesh_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Peer> peers_;
  std::vector<std::weak_ptr<NcclComm>> comms_;
  std::atomic<bool> closing_ = false;
  std::atomic<bool> failed_ = false;
  ErrorKind failure_kind_ = ErrorKind::kRankLost;
  std::string failure_;
};

}  // namespace sluice::comm
