#include "comm/staged_communicator.h"

#include <bit>
#include <map>
#include <mutex>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "tensor/tensor.h"

namespace sluice::comm {
namespace {

constexpr int64_t kSmallestBuffer = int64_t{4} << 10;

// Buffers that wait for their next transfer, by size: powers of two, so that steps of all sizes share them.
// Thread-safe.
class Pool {
 public:
  explicit Pool(Memory& memory) : memory_(memory) {}

  Buffer Take(int64_t bytes) {
    const auto size =
        std::max(kSmallestBuffer, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(bytes))));
    {
      std::lock_guard lock(mutex_);
      auto& free = free_[size];
      if (!free.empty()) {
        Buffer buffer = std::move(free.back());
        free.pop_back();
        return buffer;
      }
    }
    return Buffer(size, memory_);
  }
  void Give(Buffer buffer) {
    std::lock_guard lock(mutex_);
    free_[buffer.bytes()].push_back(std::move(buffer));
  }

 private:
  Memory& memory_;
  std::mutex mutex_;
  std::map<int64_t, std::vector<Buffer>> free_;
};

// What the communicators of one rank share.
struct Stage {
  Stage(Memory& of_device, Memory& of_staging) : device(of_device), pool(of_staging) {}
  Memory& device;
  Pool pool;
};

// Staged bytes, until the end of the scope.
class Staged {
 public:
  Staged(std::shared_ptr<Stage> stage, size_t bytes)
      : stage_(std::move(stage)),
        buffer_(stage_->pool.Take(static_cast<int64_t>(bytes))),
        bytes_{buffer_.data(), bytes} {}
  ~Staged() { stage_->pool.Give(std::move(buffer_)); }
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }
  // Between the device and a part of these bytes.
  void CopyOut(std::span<const std::byte> from, std::span<std::byte> part) const { Copy(from, part); }
  void CopyIn(std::span<const std::byte> part, std::span<std::byte> to) const { Copy(part, to); }

 private:
  void Copy(std::span<const std::byte> from, std::span<std::byte> to) const {
    if (!from.empty()) stage_->device.Copy(from.data(), to.data(), static_cast<int64_t>(from.size()));
  }

  const std::shared_ptr<Stage> stage_;
  Buffer buffer_;
  const std::span<std::byte> bytes_;
};

class StagedSend final : public Transfer {
 public:
  StagedSend(std::shared_ptr<Stage> stage, Communicator& host, int to, uint64_t tag,
             std::span<const std::byte> buffer)
      : staged_(std::move(stage), buffer.size()) {
    staged_.CopyOut(buffer, staged_.bytes());
    transfer_ = host.Send(to, tag, staged_.bytes());
  }
  void Wait() override { transfer_->Wait(); }

 private:
  const Staged staged_;
  std::unique_ptr<Transfer> transfer_;  // last: its end lets go of the bytes
};

class StagedReceive final : public Transfer {
 public:
  StagedReceive(std::shared_ptr<Stage> stage, Communicator& host, int from, uint64_t tag,
                std::span<std::byte> buffer)
      : buffer_(buffer),
        staged_(std::move(stage), buffer.size()),
        transfer_(host.Receive(from, tag, staged_.bytes())) {}
  ~StagedReceive() override {
    try {
      Wait();
    } catch (const Error&) {
      // The failure is the rank's, and its other waits tell it.
    }
  }
  void Wait() override {
    transfer_->Wait();
    if (!std::exchange(landed_, true)) staged_.CopyIn(staged_.bytes(), buffer_);
  }

 private:
  const std::span<std::byte> buffer_;
  const Staged staged_;
  const std::unique_ptr<Transfer> transfer_;  // last: its end lets go of the bytes
  bool landed_ = false;
};

class StagedCommunicator final : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> host, std::shared_ptr<Stage> stage)
      : host_(std::move(host)), stage_(std::move(stage)) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  int GlobalRank(int group_rank) const override { return host_->GlobalRank(group_rank); }

  std::unique_ptr<Transfer> Send(int to, uint64_t tag, std::span<const std::byte> buffer) override {
    if (buffer.empty()) return host_->Send(to, tag, buffer);
    Fence();
    return std::make_unique<StagedSend>(stage_, *host_, to, tag, buffer);
  }
  std::unique_ptr<Transfer> Receive(int from, uint64_t tag, std::span<std::byte> buffer) override {
    if (buffer.empty()) return host_->Receive(from, tag, buffer);
    Fence();
    return std::make_unique<StagedReceive>(stage_, *host_, from, tag, buffer);
  }

  // This rank's part is copied out once for all others, and everybody's in at once.
  void AllGather(std::string_view op, std::span<const std::byte> mine, std::span<std::byte> all,
                 std::span<const int64_t> bytes) override {
    if (size() == 1) return Communicator::AllGather(op, mine, all, bytes);
    SLUICE_CHECK(static_cast<int>(bytes.size()) == size() && bytes[rank()] == std::ssize(mine) &&
                     std::accumulate(bytes.begin(), bytes.end(), int64_t{0}) == std::ssize(all),
                 "{}: {} sizes for {} ranks, {} bytes of mine and {} of all", op, bytes.size(), size(),
                 mine.size(), all.size());
    Fence();
    const Staged staged(stage_, all.size());
    const auto before = std::accumulate(bytes.begin(), bytes.begin() + rank(), int64_t{0});
    const auto here = staged.bytes().subspan(static_cast<size_t>(before), mine.size());
    staged.CopyOut(mine, here);
    Host().AllGather(op, here, staged.bytes(), bytes);
    staged.CopyIn(staged.bytes(), all);
  }

  // The part for itself does not leave the device.
  void AllToAll(std::string_view op, std::span<const std::span<const std::byte>> send,
                std::span<const std::span<std::byte>> receive) override {
    if (size() == 1) return Communicator::AllToAll(op, send, receive);
    const auto ranks = static_cast<size_t>(size());
    SLUICE_CHECK(send.size() == ranks && receive.size() == ranks,
                 "{}: {} parts to send, {} to receive, {} ranks", op, send.size(), receive.size(), ranks);
    const auto& own = send[rank()];
    SLUICE_CHECK(own.size() == receive[rank()].size(), "{}: the own part has {} and {} bytes", op, own.size(),
                 receive[rank()].size());
    Fence();
    if (!own.empty() && own.data() != receive[rank()].data()) {
      stage_->device.Copy(own.data(), receive[rank()].data(), static_cast<int64_t>(own.size()));
    }
    const Staged out(stage_, BytesForOthers(send));
    const Staged in(stage_, BytesForOthers(receive));
    std::vector<std::span<const std::byte>> host_send(ranks);
    std::vector<std::span<std::byte>> host_receive(ranks);
    auto out_rest = out.bytes();
    auto in_rest = in.bytes();
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      out.CopyOut(send[peer], out_rest);
      host_send[peer] = out_rest.first(send[peer].size());
      host_receive[peer] = in_rest.first(receive[peer].size());
      out_rest = out_rest.subspan(send[peer].size());
      in_rest = in_rest.subspan(receive[peer].size());
    }
    Host().AllToAll(op, host_send, host_receive);
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank()) in.CopyIn(host_receive[peer], receive[peer]);
    }
  }

  void Barrier(std::string_view op) override { Host().Barrier(op); }

  std::unique_ptr<Communicator> Subgroup(std::span<const int> members) override {
    return std::make_unique<StagedCommunicator>(host_->Subgroup(members), stage_);
  }
  void Abort(std::string_view reason) override { host_->Abort(reason); }
  Memory& memory() override { return stage_->device; }
  bool ConnectsWhenUsed() const override { return true; }
  int64_t bytes_sent() const override { return host_->bytes_sent(); }
  int64_t bytes_received() const override { return host_->bytes_received(); }

 private:
  // Its waits and spans are this one's.
  Communicator& Host() {
    host_->SetRecorder(recorder_);
    return *host_;
  }
  template <typename Span>
  size_t BytesForOthers(std::span<const Span> parts) const {
    size_t bytes = 0;
    for (int peer = 0; peer < size(); ++peer) bytes += peer == rank() ? 0 : parts[peer].size();
    return bytes;
  }

  const std::unique_ptr<Communicator> host_;
  const std::shared_ptr<Stage> stage_;
};

}  // namespace

std::unique_ptr<Communicator> MakeStaged(std::unique_ptr<Communicator> host, Memory& device,
                                         Memory& staging) {
  SLUICE_CHECK(host != nullptr && staging.OnHost(), "staging is the host's memory");
  return std::make_unique<StagedCommunicator>(std::move(host), std::make_shared<Stage>(device, staging));
}

}  // namespace sluice::comm
