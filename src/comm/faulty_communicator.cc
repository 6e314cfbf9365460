#include "comm/faulty_communicator.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "comm/link.h"

namespace sluice::comm {
namespace {

class Gone final : public Transfer {
 public:
  void Wait() override {}
};

// A transfer of a copy, which lives as long.
class CopyTransfer final : public Transfer {
 public:
  CopyTransfer(Communicator& inner, int to, uint64_t tag, std::vector<std::byte> copy)
      : copy_(std::move(copy)), transfer_(inner.Send(to, tag, copy_)) {}
  void Wait() override { transfer_->Wait(); }

 private:
  const std::vector<std::byte> copy_;
  const std::unique_ptr<Transfer> transfer_;
};

// What a rank's communicators share.
struct Faults {
  explicit Faults(std::shared_ptr<FaultInjector> from) : injector(std::move(from)) {}

  const std::shared_ptr<FaultInjector> injector;
  std::mutex mutex;
  Deadline free_at = Clock::now();  // when the slow link has carried what was sent before
  Link link;                        // last: what it still sends uses nothing of the above

  // When a slow link delivers `bytes` sent now.
  Deadline Carry(const Fault& fault, size_t bytes) {
    std::lock_guard lock(mutex);
    free_at = std::max(free_at, Clock::now());
    if (fault.bytes_per_second > 0) {
      free_at += Duration(static_cast<int64_t>(static_cast<double>(bytes) * 1e9 /
                                               static_cast<double>(fault.bytes_per_second)));
    }
    return free_at + fault.latency;
  }
};

class FaultyCommunicator final : public Communicator {
 public:
  FaultyCommunicator(std::shared_ptr<Communicator> inner, std::shared_ptr<Faults> faults)
      : inner_(std::move(inner)), faults_(std::move(faults)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  int GlobalRank(int group_rank) const override { return inner_->GlobalRank(group_rank); }

  std::unique_ptr<Transfer> Send(int to, uint64_t tag, std::span<const std::byte> buffer) override {
    Fence();
    const FaultWhere where = tag < kTagLimit ? FaultWhere::kHop : FaultWhere::kCollective;
    const int64_t step = recorder_ != nullptr ? recorder_->place().step : -1;
    faults_->injector->BeforeSend(where, step);
    const auto fault = faults_->injector->TakeMessage(where, step, GlobalRank(to));
    auto transfer = fault.has_value() ? Strike(*fault, to, tag, buffer) : inner_->Send(to, tag, buffer);
    ReleaseHeld(to, fault.has_value() && fault->action == FaultAction::kReorder);
    return transfer;
  }
  std::unique_ptr<Transfer> Receive(int from, uint64_t tag, std::span<std::byte> buffer) override {
    Fence();
    return inner_->Receive(from, tag, buffer);
  }
  std::unique_ptr<Communicator> Subgroup(std::span<const int> members) override {
    return std::make_unique<FaultyCommunicator>(inner_->Subgroup(members), faults_);
  }
  void Abort(std::string_view reason) override {
    inner_->Abort(reason);
    faults_->link.Hurry();
  }

  Memory& memory() override { return inner_->memory(); }
  int sms_of_receives() const override { return inner_->sms_of_receives(); }
  bool ConnectsWhenUsed() const override { return inner_->ConnectsWhenUsed(); }
  int64_t bytes_sent() const override { return inner_->bytes_sent(); }
  int64_t bytes_received() const override { return inner_->bytes_received(); }

 private:
  std::unique_ptr<Transfer> Strike(const Fault& fault, int to, uint64_t tag,
                                   std::span<const std::byte> buffer) {
    switch (fault.action) {
      case FaultAction::kDelay:
        faults_->link.SendCopyAt(Clock::now() + fault.delay, inner_, to, tag, buffer);
        return std::make_unique<Gone>();
      case FaultAction::kReorder:
        // The link sends it when no other message to the same rank lets it go before.
        held_[to] = faults_->link.SendCopyAt(Clock::now() + fault.delay, inner_, to, tag, buffer);
        return std::make_unique<Gone>();
      case FaultAction::kDrop:
        return std::make_unique<Gone>();
      case FaultAction::kDuplicate: {
        auto first = inner_->Send(to, tag, buffer);
        faults_->link.SendCopyAt(Clock::now(), inner_, to, tag, buffer);
        return first;
      }
      case FaultAction::kCorrupt: {
        std::vector<std::byte> copy(buffer.begin(), buffer.end());
        if (!copy.empty()) copy[copy.size() / 2] ^= std::byte{1};
        return std::make_unique<CopyTransfer>(*inner_, to, tag, std::move(copy));
      }
      case FaultAction::kSlow:
        return faults_->link.SendAt(faults_->Carry(fault, buffer.size()), inner_, to, tag, buffer);
      default:
        Fail(ErrorKind::kInternal, "a fault of messages called {}", NameOf(fault.action));
    }
  }

  // A message held back for the sake of the order leaves now that another one has.
  void ReleaseHeld(int to, bool just_held) {
    const auto held = held_.find(to);
    if (held == held_.end() || just_held) return;
    faults_->link.SendNow(held->second);
    held_.erase(held);
  }

  const std::shared_ptr<Communicator> inner_;
  const std::shared_ptr<Faults> faults_;
  std::map<int, Link::Ticket> held_;  // by receiver; of the rank's thread
};

}  // namespace

std::unique_ptr<Communicator> MakeFaulty(std::unique_ptr<Communicator> inner,
                                         std::shared_ptr<FaultInjector> injector) {
  SLUICE_CHECK(inner != nullptr && injector != nullptr, "faults need a communicator and an injector");
  return std::make_unique<FaultyCommunicator>(std::move(inner),
                                              std::make_shared<Faults>(std::move(injector)));
}

}  // namespace sluice::comm
