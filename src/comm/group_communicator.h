#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "comm/communicator.h"

namespace sluice::comm {

// No transfer has this slot or the kTagLimit slots before it: a back end may use them for itself.
inline constexpr uint64_t kReservedSlot = ~uint64_t{0};

// One rank's side of a world: what a back end with point-to-point transfers has to supply. Ranks here are
// ranks of the world. A slot is a tag with its group folded in: equal slots between two ranks match in order.
// Buffers are not empty and peers are other ranks. Thread-safe.
class Endpoint {
 public:
  virtual ~Endpoint() = default;
  virtual std::unique_ptr<Transfer> Send(int to, uint64_t slot, std::span<const std::byte> buffer) = 0;
  virtual std::unique_ptr<Transfer> Receive(int from, uint64_t slot, std::span<std::byte> buffer) = 0;
  // The stream's form of both; null where there is none.
  virtual std::unique_ptr<Transfer> SendOn(WorkStream&, int, uint64_t, std::span<const std::byte>) {
    return nullptr;
  }
  virtual std::unique_ptr<Transfer> ReceiveOn(WorkStream&, int, uint64_t, std::span<std::byte>) {
    return nullptr;
  }
  virtual void Abort(std::string_view reason) = 0;
  virtual Memory& memory() { return HostMemory(); }
  virtual int sms_of_receives() const { return 0; }
};

// How many groups a rank shares with each rank of the world. The n-th group that holds both a and b is the
// n-th on both sides, because both call Subgroup for it in the same order; so n keeps the groups of a pair
// apart without a word exchanged, whatever groups other ranks make. Thread-safe.
class GroupCounts {
 public:
  explicit GroupCounts(int world) : counts_(static_cast<size_t>(world), 0) {}
  // Counts one more group with each of `members`; returns its number for each of them.
  std::vector<uint64_t> Enter(std::span<const int> members);

 private:
  std::mutex mutex_;
  std::vector<uint64_t> counts_;
};

// A group of ranks over an endpoint. A back end with collectives of its own derives from it.
class GroupCommunicator : public Communicator {
 public:
  // members: ranks of the world, ascending; rank: this one's place among them.
  GroupCommunicator(std::shared_ptr<Endpoint> endpoint, std::shared_ptr<GroupCounts> counts,
                    std::vector<int> members, int rank);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  int GlobalRank(int group_rank) const override { return members_.at(static_cast<size_t>(group_rank)); }
  std::unique_ptr<Transfer> Send(int to, uint64_t tag, std::span<const std::byte> buffer) override;
  std::unique_ptr<Transfer> Receive(int from, uint64_t tag, std::span<std::byte> buffer) override;
  std::unique_ptr<Transfer> SendOn(WorkStream& stream, int to, uint64_t tag,
                                   std::span<const std::byte> buffer) override;
  std::unique_ptr<Transfer> ReceiveOn(WorkStream& stream, int from, uint64_t tag,
                                      std::span<std::byte> buffer) override;
  std::unique_ptr<Communicator> Subgroup(std::span<const int> members) override;
  void Abort(std::string_view reason) override { endpoint_->Abort(reason); }
  Memory& memory() override { return endpoint_->memory(); }
  int sms_of_receives() const override { return endpoint_->sms_of_receives(); }

 protected:
  struct Place {
    std::vector<int> members;  // ranks of the world
    int rank = -1;             // this one's place among them
  };
  // `members`, group ranks of this group, as a new group names itself. Checks the rules of Subgroup.
  Place PlaceAmong(std::span<const int> members) const;

  const std::vector<int>& members() const { return members_; }
  // Per member: which of the groups shared with it this one is; the same number on both sides.
  const std::vector<uint64_t>& ordinals() const { return ordinals_; }
  const std::shared_ptr<GroupCounts>& counts() const { return counts_; }

 private:
  uint64_t Slot(int peer, uint64_t tag) const;

  const std::shared_ptr<Endpoint> endpoint_;
  const std::shared_ptr<GroupCounts> counts_;
  const std::vector<int> members_;
  const std::vector<uint64_t> ordinals_;
  const int rank_;
};

// The communicator of all `size` ranks over `endpoint`; its subgroups share the endpoint, which lives as long
// as any of them.
std::unique_ptr<Communicator> MakeWorldCommunicator(std::shared_ptr<Endpoint> endpoint, int rank, int size);

}  // namespace sluice::comm
