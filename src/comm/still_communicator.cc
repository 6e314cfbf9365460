#include "comm/still_communicator.h"

#include "base/error.h"

namespace sluice::comm {
namespace {

class Still final : public Communicator {
 public:
  Still(int rank, int size) : rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int GlobalRank(int group_rank) const override { return group_rank; }
  std::unique_ptr<Transfer> Send(int, uint64_t, std::span<const std::byte>) override { return Nothing(); }
  std::unique_ptr<Transfer> Receive(int, uint64_t, std::span<std::byte>) override { return Nothing(); }
  std::unique_ptr<Communicator> Subgroup(std::span<const int>) override {
    Fail(ErrorKind::kInternal, "a group in which nothing moves has no groups");
  }
  void Abort(std::string_view) override {}
  void AllGather(std::string_view, std::span<const std::byte>, std::span<std::byte>,
                 std::span<const int64_t>) override {
    Fence();
  }
  void AllToAll(std::string_view, std::span<const std::span<const std::byte>>,
                std::span<const std::span<std::byte>>) override {
    Fence();
  }
  void Barrier(std::string_view) override {}

 private:
  std::unique_ptr<Transfer> Nothing() const {
    Fence();
    return std::make_unique<NoTransfer>();
  }

  const int rank_;
  const int size_;
};

}  // namespace

std::unique_ptr<Communicator> MakeStill(int rank, int size) { return std::make_unique<Still>(rank, size); }

}  // namespace sluice::comm
