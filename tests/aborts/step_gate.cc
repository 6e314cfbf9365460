#include "step_gate.h"

#include <utility>

namespace sluice::aborts {
namespace {

// Hands everything on; what is received passes the gate first.
class GatedCommunicator final : public comm::Communicator {
 public:
  GatedCommunicator(StepGate& gate, comm::Communicator& world) : gate_(gate), world_(world) {}

  int rank() const override { return world_.rank(); }
  int size() const override { return world_.size(); }
  int GlobalRank(int group_rank) const override { return world_.GlobalRank(group_rank); }
  std::unique_ptr<comm::Transfer> Send(int to, uint64_t tag, std::span<const std::byte> buffer) override {
    return world_.Send(to, tag, buffer);
  }
  std::unique_ptr<comm::Transfer> Receive(int from, uint64_t tag, std::span<std::byte> buffer) override {
    // The tags of the pipeline: the hop's are steps, the sampled tokens' lie in the upper half.
    constexpr uint64_t kTokens = comm::kTagLimit / 2;
    const StepGate::Place place{rank(), static_cast<int64_t>(tag % kTokens),
                                tag < kTokens ? Point::kHop : Point::kToken};
    return std::make_unique<GatedTransfer>(gate_, place, world_.Receive(from, tag, buffer));
  }
  std::unique_ptr<comm::Communicator> Subgroup(std::span<const int> members) override {
    return world_.Subgroup(members);
  }
  void Abort(std::string_view reason) override { world_.Abort(reason); }
  int64_t bytes_sent() const override { return world_.bytes_sent(); }
  int64_t bytes_received() const override { return world_.bytes_received(); }

 private:
  class GatedTransfer final : public comm::Transfer {
   public:
    GatedTransfer(StepGate& gate, const StepGate::Place& place, std::unique_ptr<comm::Transfer> inner)
        : gate_(gate), place_(place), inner_(std::move(inner)) {}
    void Wait() override {
      gate_.Reach(place_);
      inner_->Wait();
    }

   private:
    StepGate& gate_;
    const StepGate::Place place_;
    const std::unique_ptr<comm::Transfer> inner_;
  };

  StepGate& gate_;
  comm::Communicator& world_;
};

}  // namespace

StepGate::StepGate(int world, int adds_of_last_op) : adds_of_last_op_(adds_of_last_op), ranks_(world) {
  for (int rank = 0; rank < world; ++rank) {
    ranks_[rank].log.on_call = [this, rank](const std::string& op) { OnCall(rank, op); };
  }
}

engine::RankProbes StepGate::Probes() {
  engine::RankProbes probes;
  probes.wrap_ops = [this](int rank, std::unique_ptr<ops::Ops> ops) {
    return std::make_unique<layouts::CountingOps>(std::move(ops), ranks_[rank].log);
  };
  probes.wrap_world = [this](int, comm::Communicator& world) {
    return std::make_unique<GatedCommunicator>(*this, world);
  };
  return probes;
}

// RopeAngles is the first op of a pass's layers and occurs once, also in a pass without rows.
void StepGate::OnCall(int rank, const std::string& op) {
  Counted& counted = ranks_[rank];
  if (op == "RopeAngles") {
    ++counted.step;
    counted.attentions = 0;
    counted.adds = 0;
    Reach({rank, counted.step, Point::kBegun});
  } else if (op == "SparseAttention" && ++counted.attentions == 1) {
    Reach({rank, counted.step, Point::kAttention});
  } else if (op == "Add" && ++counted.adds == adds_of_last_op_) {
    Reach({rank, counted.step, Point::kLastAdd});
  }
}

void StepGate::Close(const Place& place) {
  std::lock_guard lock(mutex_);
  closed_.insert(place);
}

bool StepGate::AwaitHeld(const Place& place) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::minutes(1), [&] { return held_.contains(place); });
}

void StepGate::Open(const Place& place) {
  std::lock_guard lock(mutex_);
  closed_.erase(place);
  changed_.notify_all();
}

void StepGate::OpenAll() {
  std::lock_guard lock(mutex_);
  closed_.clear();
  changed_.notify_all();
}

void StepGate::Reach(const Place& place) {
  std::unique_lock lock(mutex_);
  if (!closed_.contains(place)) return;
  held_.insert(place);
  changed_.notify_all();
  changed_.wait(lock, [&] { return !closed_.contains(place); });
  held_.erase(place);
}

}  // namespace sluice::aborts
