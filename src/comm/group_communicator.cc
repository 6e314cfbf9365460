#include "comm/group_communicator.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace sluice::comm {
namespace {

// The bits of a slot above the tag and the collectives' bit.
constexpr int kGroupShift = 48;
constexpr uint64_t kGroupLimit =
    (uint64_t{1} << (64 - kGroupShift)) - 1;  // the last one's slots are reserved

// How many groups this rank shares with each rank of the world. The n-th group that holds both a and b is the
// n-th on both sides, because both call Subgroup for it in the same order; so n keeps the groups of a pair
// apart without a word exchanged, whatever groups other ranks make.
class GroupCounts {
 public:
  explicit GroupCounts(int world) : counts_(static_cast<size_t>(world), 0) {}

  std::vector<uint64_t> Enter(std::span<const int> members) {
    std::lock_guard lock(mutex_);
    std::vector<uint64_t> ordinals;
    ordinals.reserve(members.size());
    for (const int member : members) {
      SLUICE_CHECK(counts_[member] < kGroupLimit, "more than {} groups with rank {}", kGroupLimit, member);
      ordinals.push_back(counts_[member]++);
    }
    return ordinals;
  }

 private:
  std::mutex mutex_;
  std::vector<uint64_t> counts_;
};

class GroupCommunicator final : public Communicator {
 public:
  // members: ranks of the world, ascending; rank: this one's place among them.
  GroupCommunicator(std::shared_ptr<Endpoint> endpoint, std::shared_ptr<GroupCounts> counts,
                    std::vector<int> members, int rank)
      : endpoint_(std::move(endpoint)),
        counts_(std::move(counts)),
        members_(std::move(members)),
        ordinals_(counts_->Enter(members_)),
        rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  int GlobalRank(int group_rank) const override { return members_.at(static_cast<size_t>(group_rank)); }

  std::unique_ptr<Transfer> Send(int to, uint64_t tag, std::span<const std::byte> buffer) override {
    const uint64_t slot = Slot(to, tag);
    if (buffer.empty()) return std::make_unique<NoTransfer>();
    bytes_sent_ += static_cast<int64_t>(buffer.size());
    return endpoint_->Send(members_[to], slot, buffer);
  }

  std::unique_ptr<Transfer> Receive(int from, uint64_t tag, std::span<std::byte> buffer) override {
    const uint64_t slot = Slot(from, tag);
    if (buffer.empty()) return std::make_unique<NoTransfer>();
    bytes_received_ += static_cast<int64_t>(buffer.size());
    return endpoint_->Receive(members_[from], slot, buffer);
  }

  std::unique_ptr<Communicator> Subgroup(std::span<const int> members) override {
    std::vector<int> global;
    int place = -1;
    for (const int member : members) {
      SLUICE_CHECK(member >= 0 && member < size(), "rank {} is not one of a group of {}", member, size());
      SLUICE_CHECK(global.empty() || members_[member] > global.back(), "group members do not ascend");
      if (member == rank_) place = static_cast<int>(global.size());
      global.push_back(members_[member]);
    }
    SLUICE_CHECK(place >= 0, "rank {} is not a member of the group it makes", rank_);
    return std::make_unique<GroupCommunicator>(endpoint_, counts_, std::move(global), place);
  }

  void Abort(std::string_view reason) override { endpoint_->Abort(reason); }

 private:
  class NoTransfer final : public Transfer {
   public:
    void Wait() override {}
  };

  uint64_t Slot(int peer, uint64_t tag) const {
    SLUICE_CHECK(peer >= 0 && peer < size() && peer != rank_, "rank {} of {} has no peer {}", rank_, size(),
                 peer);
    SLUICE_CHECK(tag < 2 * kTagLimit, "tag {} is beyond the limit {}", tag, kTagLimit);
    return ordinals_[peer] << kGroupShift | tag;
  }

  const std::shared_ptr<Endpoint> endpoint_;
  const std::shared_ptr<GroupCounts> counts_;
  const std::vector<int> members_;
  const std::vector<uint64_t> ordinals_;  // per member: which of the groups shared with it this one is
  const int rank_;
};

}  // namespace

std::unique_ptr<Communicator> MakeWorldCommunicator(std::shared_ptr<Endpoint> endpoint, int rank, int size) {
  std::vector<int> members(static_cast<size_t>(size));
  for (int member = 0; member < size; ++member) members[member] = member;
  return std::make_unique<GroupCommunicator>(std::move(endpoint), std::make_shared<GroupCounts>(size),
                                             std::move(members), rank);
}

}  // namespace sluice::comm
