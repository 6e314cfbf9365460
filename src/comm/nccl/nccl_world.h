#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "comm/group_communicator.h"
#include "comm/key_value_store.h"
#include "comm/nccl/nccl_comm.h"
#include "comm/nccl/nccl_config.h"

namespace sluice::comm {

class NcclRank;

// Registered device memory of a group, for copy-engine collectives; as long as it lives. Destroyed on all
// members before the memory is freed.
class NcclWindow {
 public:
  explicit NcclWindow(std::shared_ptr<NcclComm> comm) : comm_(std::move(comm)) {}
  ~NcclWindow();
  NcclWindow(const NcclWindow&) = delete;
  NcclWindow& operator=(const NcclWindow&) = delete;
  ncclWindow_t* handle() { return &window_; }

 private:
  const std::shared_ptr<NcclComm> comm_;
  ncclWindow_t window_ = nullptr;
};

// Bytes between GPUs, one rank per GPU. Buffers are memory of the rank's device. Send and Receive also take
// the host's, on both sides and up to kLongestMessage bytes (nccl_rank.h), for what few bytes the hosts have
// to tell one another; anything else from host memory is refused with Error(kInternal).
//
// The host's form is Communicator's own, with its contract: buffers are complete on the device when they are
// handed over, and hold what they should when the call or the wait returns. Waits sleep. Nothing is launched
// before all sides have come, so a rank that waits for another occupies no SM and sms_of_receives is 0; while
// bytes move, NCCL's channels occupy theirs (--sm-reserve is for that). A wait that ends with an Error leaves
// the device free of the transfer. Tags match in any order; each direction between two ranks has a
// communicator of its own, and its transfers run one after the other in the order in which they were met.
//
// The stream's form (Enqueue...) puts an operation on the caller's stream, without waiting for the peers, and
// returns an event behind it; inside a stream capture the event belongs to the capture. All operations of a
// group, of both forms, are one sequence that every member must call alike; there are no tags. Different
// groups do not wait for one another. An operation occupies SMs from its turn on the stream until its peers
// have come. Await is the host's wait, with the limit and the verdict of the other form. On copy engines it
// is the stream that waits, and nothing can end that: once Await has thrown, the process must end without
// destroying what is on the device (_exit).
//
// No arithmetic is done on the way.
class NcclCommunicator final : public GroupCommunicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclRank> rank, std::shared_ptr<GroupCounts> counts,
                   std::vector<int> members, int place);
  ~NcclCommunicator() override;

  // Subgroup with its own type.
  std::unique_ptr<NcclCommunicator> Split(std::span<const int> members);
  std::unique_ptr<Communicator> Subgroup(std::span<const int> members) override;

  void AllGather(std::string_view op, std::span<const std::byte> mine, std::span<std::byte> all,
                 std::span<const int64_t> bytes) override;
  void AllToAll(std::string_view op, std::span<const std::span<const std::byte>> send,
                std::span<const std::span<std::byte>> receive) override;
  bool ConnectsWhenUsed() const override { return true; }
  // A meeting of the hosts: says nothing about what is on the devices' streams.
  void Barrier(std::string_view op) override;

  using Event = std::shared_ptr<DeviceEvent>;

  // Makes the group's NCCL communicator, which its first operation does otherwise: waits for all members.
  void Connect();
  // In a group of two also what EnqueueSend and EnqueueReceive need, the first of which otherwise waits on
  // the host until the other rank has called its counterpart.
  void ConnectTransfers();
  // As AllGather and AllToAll.
  Event EnqueueAllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                         std::span<const int64_t> bytes, cudaStream_t stream);
  Event EnqueueAllToAll(std::span<const std::span<const std::byte>> send,
                        std::span<const std::span<std::byte>> receive, cudaStream_t stream);
  // The parts are equal on all ranks and lie one after the other, in rank order; size() divides their bytes.
  Event EnqueueEqualAllToAll(std::span<const std::byte> send, std::span<std::byte> receive,
                             cudaStream_t stream);
  // To and from the other rank of a group of two, for instance of a hop. Groups in both directions keep a
  // send from standing behind a receive that waits.
  Event EnqueueSend(std::span<const std::byte> buffer, cudaStream_t stream);
  Event EnqueueReceive(std::span<std::byte> buffer, cudaStream_t stream);

  // Sleeps until `event`, from one of the above, is complete. Throws as Transfer::Wait does; names the rank
  // that has not called what this one waits for.
  void Await(std::string_view op, const Event& event);

  // Every member calls with as many bytes, from NcclMemory. Collectives between registered buffers use copy
  // engines where NcclConfig::zero_cta asks for them and NCCL can.
  std::unique_ptr<NcclWindow> RegisterWindow(std::span<std::byte> memory);

 private:
  void CheckAllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                      std::span<const int64_t> bytes) const;
  void CheckAllToAll(std::span<const std::span<const std::byte>> send,
                     std::span<const std::span<std::byte>> receive) const;
  void Arrive();
  void AwaitAll(std::string_view op);
  int FirstMissing() const;
  std::string NotEnded(std::string_view op) const;
  Event Launch(const std::function<ncclResult_t(ncclComm_t)>& enqueue, cudaStream_t stream);
  Event PutAllGather(std::span<const std::byte> mine, std::span<std::byte> all,
                     std::span<const int64_t> bytes, cudaStream_t stream);
  Event PutAllToAll(std::span<const std::span<const std::byte>> send,
                    std::span<const std::span<std::byte>> receive, cudaStream_t stream);

  const std::shared_ptr<NcclRank> self_;
  std::shared_ptr<NcclComm> comm_;        // null until connected
  std::unique_ptr<DeviceStream> stream_;  // of the host's form
  uint64_t begun_ = 0;                    // operations of this group, counted alike on every member
};

// The communicator of `rank` in a world of `size` ranks, threads of one process or processes, each with a GPU
// of its own. They find one another through `store`; `bind` is the address of this host that the others reach
// it by. NCCL chooses its interfaces itself (NCCL_SOCKET_IFNAME, NCCL_IB_HCA). Returns once the ranks' frame
// mesh stands; NCCL's communicators are made when they are first used. `timeout` bounds the connecting and
// every wait. Nothing is encrypted or authenticated.
// Throws Error(kUsage) for a device that is not there, a negative channel count, or an NCCL too old;
// Error(kNetwork) when `bind` is no address of this host; Error(kRankLost) naming the rank that does not
// come. Sizes that disagree end the world with Error(kInternal). Abort and a lost rank end the other ranks'
// waits too, with the same sentence. Between the call that posts a transfer and its wait, no thread may
// allocate or free device memory: CUDA then waits for the whole device, and the transfer may need this
// process to go on.
std::unique_ptr<NcclCommunicator> MakeNcclWorld(int rank, int size, KeyValueStore& store,
                                                const std::string& bind, const NcclConfig& config,
                                                Duration timeout);

}  // namespace sluice::comm
