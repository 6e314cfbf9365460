#include "comm/group_communicator.h"

#include <utility>

#include "base/error.h"

namespace sluice::comm {
namespace {

// The bits of a slot above the tag and the collectives' bit.
constexpr int kGroupShift = 48;
constexpr uint64_t kGroupLimit =
    (uint64_t{1} << (64 - kGroupShift)) - 1;  // the last one's slots are reserved

}  // namespace

std::vector<uint64_t> GroupCounts::Enter(std::span<const int> members) {
  std::lock_guard lock(mutex_);
  std::vector<uint64_t> ordinals;
  ordinals.reserve(members.size());
  for (const int member : members) {
    SLUICE_CHECK(counts_[member] < kGroupLimit, "more than {} groups with rank {}", kGroupLimit, member);
    ordinals.push_back(counts_[member]++);
  }
  return ordinals;
}

GroupCommunicator::GroupCommunicator(std::shared_ptr<Endpoint> endpoint, std::shared_ptr<GroupCounts> counts,
                                     std::vector<int> members, int rank)
    : endpoint_(std::move(endpoint)),
      counts_(std::move(counts)),
      members_(std::move(members)),
      ordinals_(counts_->Enter(members_)),
      rank_(rank) {}

std::unique_ptr<Transfer> GroupCommunicator::Send(int to, uint64_t tag, std::span<const std::byte> buffer) {
  const uint64_t slot = Slot(to, tag);
  if (buffer.empty()) return std::make_unique<NoTransfer>();
  bytes_sent_ += static_cast<int64_t>(buffer.size());
  Fence();
  return endpoint_->Send(members_[to], slot, buffer);
}

std::unique_ptr<Transfer> GroupCommunicator::Receive(int from, uint64_t tag, std::span<std::byte> buffer) {
  const uint64_t slot = Slot(from, tag);
  if (buffer.empty()) return std::make_unique<NoTransfer>();
  bytes_received_ += static_cast<int64_t>(buffer.size());
  Fence();
  return endpoint_->Receive(members_[from], slot, buffer);
}

std::unique_ptr<Transfer> GroupCommunicator::SendOn(WorkStream& stream, int to, uint64_t tag,
                                                    std::span<const std::byte> buffer) {
  if (buffer.empty()) return std::make_unique<NoTransfer>();
  auto transfer = endpoint_->SendOn(stream, members_.at(static_cast<size_t>(to)), Slot(to, tag), buffer);
  if (transfer == nullptr) return Send(to, tag, buffer);
  bytes_sent_ += static_cast<int64_t>(buffer.size());
  return transfer;
}

std::unique_ptr<Transfer> GroupCommunicator::ReceiveOn(WorkStream& stream, int from, uint64_t tag,
                                                       std::span<std::byte> buffer) {
  if (buffer.empty()) return std::make_unique<NoTransfer>();
  auto transfer =
      endpoint_->ReceiveOn(stream, members_.at(static_cast<size_t>(from)), Slot(from, tag), buffer);
  if (transfer == nullptr) return Receive(from, tag, buffer);
  bytes_received_ += static_cast<int64_t>(buffer.size());
  return transfer;
}

std::unique_ptr<Communicator> GroupCommunicator::Subgroup(std::span<const int> members) {
  Place place = PlaceAmong(members);
  return std::make_unique<GroupCommunicator>(endpoint_, counts_, std::move(place.members), place.rank);
}

GroupCommunicator::Place GroupCommunicator::PlaceAmong(std::span<const int> members) const {
  Place place;
  for (const int member : members) {
    SLUICE_CHECK(member >= 0 && member < size(), "rank {} is not one of a group of {}", member, size());
    SLUICE_CHECK(place.members.empty() || members_[member] > place.members.back(),
                 "group members do not ascend");
    if (member == rank_) place.rank = static_cast<int>(place.members.size());
    place.members.push_back(members_[member]);
  }
  SLUICE_CHECK(place.rank >= 0, "rank {} is not a member of the group it makes", rank_);
  return place;
}

uint64_t GroupCommunicator::Slot(int peer, uint64_t tag) const {
  SLUICE_CHECK(peer >= 0 && peer < size() && peer != rank_, "rank {} of {} has no peer {}", rank_, size(),
               peer);
  SLUICE_CHECK(tag < 2 * kTagLimit, "tag {} is beyond the limit {}", tag, kTagLimit);
  return ordinals_[peer] << kGroupShift | tag;
}

std::unique_ptr<Communicator> MakeWorldCommunicator(std::shared_ptr<Endpoint> endpoint, int rank, int size) {
  std::vector<int> members(static_cast<size_t>(size));
  for (int member = 0; member < size; ++member) members[member] = member;
  return std::make_unique<GroupCommunicator>(std::move(endpoint), std::make_shared<GroupCounts>(size),
                                             std::move(members), rank);
}

}  // namespace sluice::comm
