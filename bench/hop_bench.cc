// What a hop between two processes with a GPU each costs when the sender's GPU copies into the receiver's
// memory (comm/peer_copies.h), and what it costs the scoring kernel beside it. What arrives is compared
// first.
//
//   hop_bench [--gpus 0,1]    the sender's and the receiver's; 0,0: both on one
//
// Device time between events; medians of kHopRounds.
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/gloo_world.h"
#include "comm/peer_copies.h"
#include "comm/rendezvous.h"
#include "comm/staged_communicator.h"
#include "gpu_event.h"
#include "gpu_main.h"
#include "gpu_operands.h"
#include "gpu_report.h"
#include "median.h"
#include "ops/cuda/check.h"
#include "ops/cuda/device.h"
#include "ops/cuda/stream.h"
#include "tensor/tensor.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;

constexpr int64_t kSliceBytes = int64_t{1024} * 7168 * 2;  // rows of a chunk of 8,192 over 8 lanes
constexpr int64_t kFewBytes = 7168 * 2;                    // a decode row
constexpr int kHopRounds = 25;
constexpr int kBuffersEach = 4;
constexpr int kChecked = 300;
constexpr int kStreamed = 200;
constexpr int kScores = 40;  // launches timed at once
constexpr Duration kLimit = std::chrono::seconds(60);

std::span<std::byte> FirstOf(const Buffer& buffer, int64_t bytes) {
  return {buffer.data(), static_cast<size_t>(bytes)};
}

// One of the two ranks. Each process sees its own GPU as number 0.
class HopRank {
 public:
  HopRank(int rank, std::unique_ptr<comm::Communicator> world) : rank_(rank), world_(std::move(world)) {
    Memory& memory = ops::cuda::DeviceMemory(0);
    for (int i = 0; i < kBuffersEach; ++i) {
      in_.emplace_back(kSliceBytes, memory);
      out_.emplace_back(kSliceBytes, memory);
      world_->OfferBuffer(1 - rank_, FirstOf(in_.back(), kSliceBytes));
    }
    world_->Barrier("ready");
  }

  bool sends() const { return rank_ == 0; }
  void Meet() { world_->Barrier("meet"); }

  // Hops of changing rows at changing paces: nothing arrives late, early or over what is still in use.
  void CheckRows() {
    Memory& memory = ops::cuda::DeviceMemory(0);
    std::vector<Buffer> patterns, seen;
    for (int value = 0; value < 8; ++value) {
      const std::vector<std::byte> bytes(kSliceBytes, std::byte(value * 31 + 1));
      memory.Copy(bytes.data(), patterns.emplace_back(kSliceBytes, memory).data(), kSliceBytes);
    }
    for (int step = 0; step < kChecked && !sends(); ++step) seen.emplace_back(kSliceBytes, memory);
    Meet();
    std::deque<std::unique_ptr<comm::Transfer>> under_way;
    for (int step = 0; step < kChecked; ++step) {
      if (sends() && under_way.size() == kBuffersEach) {
        under_way.front()->Wait();
        under_way.pop_front();
      }
      for (int busy = 0; busy < (step * (sends() ? 7 : 5)) % 11; ++busy) {
        stream_.Copy(patterns[0].data(), scratch_.data(), kSliceBytes);
      }
      if (sends()) {
        const Buffer& rows = out_[step % kBuffersEach];
        stream_.Copy(patterns[step % 8].data(), rows.data(), kSliceBytes);
        under_way.push_back(Send(step, FirstOf(rows, kSliceBytes)));
      } else {
        const Buffer& rows = in_[step % 2];  // posted again while the rows before are on their way
        under_way.push_back(Receive(step, FirstOf(rows, kSliceBytes)));
        SLUICE_CHECK(under_way.back()->WaitOn(stream_), "rows do not come by copies");
        stream_.Copy(rows.data(), seen[static_cast<size_t>(step)].data(), kSliceBytes);
      }
    }
    for (const auto& transfer : under_way) transfer->Wait();
    stream_.Finish();
    std::vector<std::byte> host(kSliceBytes);
    for (int step = 0; step < std::ssize(seen); ++step) {
      memory.Copy(seen[static_cast<size_t>(step)].data(), host.data(), kSliceBytes);
      const std::vector<std::byte> expected(kSliceBytes, std::byte(step % 8 * 31 + 1));
      SLUICE_CHECK(std::memcmp(host.data(), expected.data(), kSliceBytes) == 0, "hop {} is not whole", step);
    }
    if (!sends()) fmt::print("{} hops of {:.1f} MB compared: all whole\n", kChecked, kSliceBytes / 1e6);
  }

  // From an op of the sender's stream to one of the receiver's, in us: half of there and back, all of it
  // enqueued before it begins.
  double HandOver(int64_t bytes) {
    std::vector<double> times;
    for (int round = -3; round < kHopRounds; ++round) {
      Meet();
      ops::cuda::Gate gate;
      if (sends()) {
        stream_.WaitFor(gate);
        begin_.Record(stream_);
        const auto send = Send(0, FirstOf(out_[0], bytes));
        const auto receive = Receive(0, FirstOf(in_[0], bytes));
        receive->WaitOn(stream_);
        end_.Record(stream_);
        gate.Open();
        receive->Wait();
        send->Wait();
        stream_.Finish();
        if (round >= 0) times.push_back(end_.MsSince(begin_) * 1e3 / 2);
      } else {
        const auto receive = Receive(0, FirstOf(in_[0], bytes));
        receive->WaitOn(stream_);
        Send(0, FirstOf(in_[0], bytes))->Wait();
        receive->Wait();
      }
    }
    return sends() ? Median(times) : 0.0;
  }

  // us from one slice to the next where hop follows hop.
  double Streamed() {
    Meet();
    Move([&](int step) {
      if (step == kBuffersEach) begin_.Record(stream_);
      if (step + 1 == kStreamed) end_.Record(stream_);
    });
    stream_.Finish();
    return sends() ? 0.0 : end_.MsSince(begin_) * 1e3 / (kStreamed - 1 - kBuffersEach);
  }

  enum class Beside { kNothing, kWaiting, kMoving };

  // ms of a launch of the scoring kernel on this rank's GPU, if `scores`: alone, beside a receive whose rows
  // do not come meanwhile, and beside hops one after the other.
  double Scored(bool scores, Beside beside) {
    constexpr int64_t kRows = 1024;
    constexpr int64_t kKeys = 65536;
    static const ScoreOperands operands(64, 1, kRows, kKeys);
    static DeviceArray counter(ops::cuda::kCounterNumbers * sizeof(int32_t));
    int sms = 0;
    Check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "counting SMs");
    ops::cuda::Stream computing;
    std::vector<double> times;
    for (int round = -1; round < 5; ++round) {
      Meet();
      ops::cuda::Gate gate;
      std::unique_ptr<comm::Transfer> waiting;
      if (beside == Beside::kWaiting) {
        if (sends()) stream_.WaitFor(gate);
        waiting = sends() ? Send(0, FirstOf(out_[0], kSliceBytes)) : Receive(0, FirstOf(in_[0], kSliceBytes));
        if (!sends()) waiting->WaitOn(stream_);
      }
      if (scores) {
        score_begin_.Record(computing);
        for (int i = 0; i < kScores; ++i) {
          Check(ops::cuda::Enqueue(operands.Launch(), counter.as<int32_t>(), sms, computing), "scores");
        }
        score_end_.Record(computing);
      }
      if (beside == Beside::kMoving) Move([](int) {});
      computing.Finish();
      Meet();  // the rows that are waited for come after the scores
      gate.Open();
      if (waiting != nullptr) waiting->Wait();
      stream_.Finish();
      if (scores && round >= 0) times.push_back(score_end_.MsSince(score_begin_) / kScores);
    }
    return scores ? Median(times) : 0.0;
  }

 private:
  std::unique_ptr<comm::Transfer> Send(int step, std::span<const std::byte> rows) {
    return world_->SendOn(stream_, 1 - rank_, static_cast<uint64_t>(step), rows);
  }
  std::unique_ptr<comm::Transfer> Receive(int step, std::span<std::byte> rows) {
    return world_->ReceiveOn(stream_, 1 - rank_, static_cast<uint64_t>(step), rows);
  }
  // kStreamed hops of a slice, as fast as they go; arrived(step) is called behind each of the receiver's.
  template <typename Arrived>
  void Move(const Arrived& arrived) {
    std::deque<std::unique_ptr<comm::Transfer>> under_way;
    for (int step = 0; step < kStreamed; ++step) {
      if (under_way.size() == kBuffersEach) {
        under_way.front()->Wait();
        under_way.pop_front();
      }
      if (sends()) {
        under_way.push_back(Send(step, FirstOf(out_[step % kBuffersEach], kSliceBytes)));
        continue;
      }
      // All that there are buffers for are posted before the first is waited for.
      while (posted_.size() < kBuffersEach && next_ < kStreamed) {
        posted_.push_back(Receive(next_, FirstOf(in_[next_ % kBuffersEach], kSliceBytes)));
        ++next_;
      }
      posted_.front()->WaitOn(stream_);
      arrived(step);
      under_way.push_back(std::move(posted_.front()));
      posted_.pop_front();
    }
    for (const auto& transfer : under_way) transfer->Wait();
    next_ = 0;
  }

  const int rank_;
  const std::unique_ptr<comm::Communicator> world_;
  ops::cuda::Stream stream_;
  std::vector<Buffer> in_, out_;
  Buffer scratch_{kSliceBytes, ops::cuda::DeviceMemory(0)};
  std::deque<std::unique_ptr<comm::Transfer>> posted_;
  int next_ = 0;
  Event begin_, end_, score_begin_, score_end_;
};

void RunRank(HopRank& rank) {
  rank.CheckRows();
  const double few = rank.HandOver(kFewBytes);
  const double slice = rank.HandOver(kSliceBytes);
  if (rank.sends()) {
    fmt::print("hand-over of {:.1f} kB: {:.1f} us; of {:.1f} MB: {:.1f} us, of which the copy {:.0f} GB/s\n",
               kFewBytes / 1e3, few, kSliceBytes / 1e6, slice, kSliceBytes / (slice - few) / 1e3);
  }
  const double streamed = rank.Streamed();
  if (!rank.sends()) {
    fmt::print("hop after hop of {:.1f} MB: {:.1f} us, {:.0f} GB/s\n", kSliceBytes / 1e6, streamed,
               kSliceBytes / streamed / 1e3);
  }
  for (const bool receiver_scores : {true, false}) {
    const bool scores = rank.sends() != receiver_scores;
    const double alone = rank.Scored(scores, HopRank::Beside::kNothing);
    const double waiting = rank.Scored(scores, HopRank::Beside::kWaiting);
    const double moving = rank.Scored(scores, HopRank::Beside::kMoving);
    if (!scores) continue;
    fmt::print(
        "{}'s scores: alone {:.3f} ms, beside a hop that waits {:.3f} ({:.3f} x), beside hop after hop "
        "{:.3f} "
        "({:.3f} x)\n",
        receiver_scores ? "receiver" : "sender", alone, waiting, waiting / alone, moving, moving / alone);
  }
  std::fflush(stdout);
  rank.Meet();
}

void LifeOf(int rank, const std::array<int, 2>& gpus, const comm::Address& controller,
            const comm::JobSecret& secret) {
  setenv("CUDA_VISIBLE_DEVICES",
         (gpus[0] == gpus[1] ? std::to_string(gpus[0]) : fmt::format("{},{}", gpus[rank], gpus[1 - rank]))
             .c_str(),
         1);
  auto joined = comm::Join(controller, {rank, 2, "bench", "hop"}, secret, kLimit);
  comm::JoinedStore store(*joined);
  Memory& memory = ops::cuda::DeviceMemory(0);
  Check(cudaSetDevice(0), "choosing a GPU");
  const std::array<int, 1> other = {1 - rank};
  auto world = comm::MakePeerCopies(
      comm::MakeStaged(comm::MakeGlooWorld(rank, 2, store, comm::kLoopback, kLimit), memory,
                       ops::cuda::PinnedMemory(0)),
      ops::cuda::SharingOf(0), other, other, store, comm::kLoopback, true, kLimit, nullptr);
  comm::SayConnected(*joined);
  if (rank == 0) fmt::print("{}, from GPU {} to GPU {}\n", GpuName(), gpus[0], gpus[1]);
  HopRank own(rank, std::move(world));
  RunRank(own);
}

void RunBoth(const std::array<int, 2>& gpus) {
  const comm::JobSecret secret = comm::JobSecret::Random();
  comm::Rendezvous rendezvous(comm::ParseAddress(fmt::format("unix:/tmp/sluice_hop_bench_{}.sock", getpid())),
                              {-1, 2, "bench", "hop"}, secret);
  std::vector<pid_t> children;
  for (int rank = 0; rank < 2; ++rank) {
    children.push_back(fork());
    SLUICE_CHECK(children.back() >= 0, "no process");
    if (children.back() == 0) {
      const int code = Main("hop_bench", [&] { LifeOf(rank, gpus, rendezvous.address(), secret); });
      std::fflush(stdout);
      _exit(code);
    }
  }
  const auto channels = rendezvous.Accept(kLimit);
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) Fail(ErrorKind::kRankLost, "a rank ended with status {}", status);
  }
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  CLI::App app("What a hop between two processes' GPUs costs");
  std::vector<int> gpus = {0, 1};
  app.add_option("--gpus", gpus, "The sender's GPU and the receiver's")->delimiter(',')->expected(2);
  CLI11_PARSE(app, argc, argv);
  return sluice::bench::Main("hop_bench", [&] { sluice::bench::RunBoth({gpus[0], gpus[1]}); });
}
