#include "comm/replay_world.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.h"

namespace sluice::comm {
namespace {

class Done final : public Transfer {
 public:
  void Wait() override {}
  bool WaitOn(WorkStream&) override { return true; }
};

// What the groups of a rank share.
struct Shared {
  explicit Shared(Memory& where) : memory(where), stream(where.NewStream()) {}

  Memory& memory;
  const std::unique_ptr<WorkStream> stream;  // for copies; null on the host
  std::mutex mutex;
  std::string aborted;  // why; guarded by mutex
};

class ReplayCommunicator final : public Communicator {
 public:
  ReplayCommunicator(std::shared_ptr<Shared> shared, std::vector<int> members, int rank)
      : shared_(std::move(shared)), members_(std::move(members)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  int GlobalRank(int group_rank) const override { return members_.at(static_cast<size_t>(group_rank)); }
  Memory& memory() override { return shared_->memory; }

  std::unique_ptr<Transfer> Send(int, uint64_t, std::span<const std::byte> buffer) override {
    CheckGoesOn();
    bytes_sent_ += static_cast<int64_t>(buffer.size());
    return std::make_unique<Done>();
  }
  std::unique_ptr<Transfer> Receive(int, uint64_t, std::span<std::byte> buffer) override {
    CheckGoesOn();
    bytes_received_ += static_cast<int64_t>(buffer.size());
    return std::make_unique<Done>();
  }

  std::unique_ptr<Communicator> Subgroup(std::span<const int> members) override {
    std::vector<int> globals;
    int place = -1;
    for (const int member : members) {
      if (member == rank_) place = static_cast<int>(globals.size());
      globals.push_back(GlobalRank(member));
    }
    SLUICE_CHECK(place >= 0, "rank {} is not a member of the group it makes", rank_);
    return std::make_unique<ReplayCommunicator>(shared_, std::move(globals), place);
  }

  void Abort(std::string_view reason) override {
    std::lock_guard lock(shared_->mutex);
    if (shared_->aborted.empty()) shared_->aborted = reason;
  }

  void AllGather(std::string_view op, std::span<const std::byte> mine, std::span<std::byte> all,
                 std::span<const int64_t> bytes) override {
    SLUICE_CHECK(std::ssize(bytes) == size() && bytes[rank_] == std::ssize(mine) &&
                     std::accumulate(bytes.begin(), bytes.end(), int64_t{0}) == std::ssize(all),
                 "{}: {} sizes for {} ranks, {} bytes given, {} to fill", op, bytes.size(), size(),
                 mine.size(), all.size());
    Begin();
    for (int peer = 0; peer < size(); ++peer) {
      const auto part = all.first(static_cast<size_t>(bytes[peer]));
      all = all.subspan(part.size());
      if (peer != rank_) Count(mine.size(), part.size());
      Fill(part, mine);
    }
    End();
  }

  void AllToAll(std::string_view op, std::span<const std::span<const std::byte>> send,
                std::span<const std::span<std::byte>> receive) override {
    SLUICE_CHECK(std::ssize(send) == size() && std::ssize(receive) == size() &&
                     send[rank_].size() == receive[rank_].size(),
                 "{}: {} parts to send, {} to receive, {} ranks", op, send.size(), receive.size(), size());
    std::span<const std::byte> replayed = send[rank_];
    if (replayed.empty()) {
      replayed = *std::max_element(send.begin(), send.end(),
                                   [](const auto& a, const auto& b) { return a.size() < b.size(); });
    }
    Begin();
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank_) Count(send[peer].size(), receive[peer].size());
      Fill(receive[peer], replayed);
    }
    End();
  }

  void Barrier(std::string_view) override {
    Begin();
    if (size() > 1) Count(static_cast<size_t>(size() - 1), static_cast<size_t>(size() - 1));
    End();
  }

 private:
  void CheckGoesOn() const {
    std::lock_guard lock(shared_->mutex);
    if (!shared_->aborted.empty()) throw Error(ErrorKind::kRankLost, shared_->aborted);
  }

  void Begin() {
    CheckGoesOn();
    if (recorder_ != nullptr) {
      recorder_->BeginSpan(trace::SpanKind::kCollective);
      recorder_->Count(&trace::Counts::collectives);
    }
    Fence();
  }
  void End() {
    if (shared_->stream != nullptr) shared_->stream->Finish();
    if (recorder_ != nullptr) recorder_->EndSpan();
  }
  void Count(size_t sent, size_t received) {
    bytes_sent_ += static_cast<int64_t>(sent);
    bytes_received_ += static_cast<int64_t>(received);
  }

  void Fill(std::span<std::byte> part, std::span<const std::byte> with) {
    static constexpr std::array<std::byte, 1 << 16> kZeros{};
    if (with.empty()) with = kZeros;
    if (part.data() == with.data()) return;  // gathered in place
    while (!part.empty()) {
      const size_t bytes = std::min(part.size(), with.size());
      if (shared_->stream != nullptr) {
        shared_->stream->Copy(with.data(), part.data(), static_cast<int64_t>(bytes));
      } else {
        memory().Copy(with.data(), part.data(), static_cast<int64_t>(bytes));
      }
      part = part.subspan(bytes);
    }
  }

  const std::shared_ptr<Shared> shared_;
  const std::vector<int> members_;  // ranks of the world
  const int rank_;
};

}  // namespace

std::unique_ptr<Communicator> MakeReplayWorld(int rank, int size, Memory& memory) {
  SLUICE_CHECK(rank >= 0 && rank < size, "rank {} of {}", rank, size);
  std::vector<int> members(static_cast<size_t>(size));
  std::iota(members.begin(), members.end(), 0);
  return std::make_unique<ReplayCommunicator>(std::make_shared<Shared>(memory), std::move(members), rank);
}

}  // namespace sluice::comm
