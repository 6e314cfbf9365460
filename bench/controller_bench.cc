// What does a step cost the controller?
//
// CPU time per step of everything but the ranks: scheduler, encoding, one frame to each of 16 ranks (2 stages
// of 8 lanes), the result, the requests' events. The ranks are threads that take every frame and compute
// nothing; theirs is taken off. Kernel time, such as waking a rank, counts. Usage: controller_bench
#include <fmt/format.h>
#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>

#include "base/log.h"
#include "checkpoint/checkpoint_maker.h"
#include "engine/local_engine.h"
#include "pipeline/messages.h"

namespace sluice {
namespace {

constexpr int kStages = 2;
constexpr int kLanes = 8;
constexpr int kRanks = kStages * kLanes;
constexpr int64_t kChunkRows = 8192;
constexpr int kRepeats = 5;

double CpuSeconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Answers every step at once.
class IdleRanks final : public engine::RankSet {
 public:
  explicit IdleRanks(std::atomic<int64_t>& steps) : steps_(steps) {
    for (int rank = 0; rank < kRanks; ++rank) {
      auto [controller_end, rank_end] = comm::MakeChannelPair();
      channels_.push_back(std::move(controller_end));
      rank_channels_.push_back(std::move(rank_end));
    }
    for (int rank = 0; rank < kRanks; ++rank) threads_.emplace_back([this, rank] { Work(rank); });
  }
  ~IdleRanks() override { IdleRanks::Stop(Duration(0)); }
  comm::Channel& channel(int rank) override { return *channels_[rank]; }
  std::string ReasonGone(int) override { return ""; }
  int ProcessId(int) override { return -1; }
  void Stop(Duration) override {
    for (auto& channel : channels_) channel->Close();
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  double cpu_seconds() {
    double sum = 0.0;
    for (std::thread& thread : threads_) {
      clockid_t clock{};
      pthread_getcpuclockid(thread.native_handle(), &clock);
      sum += CpuSeconds(clock);
    }
    return sum;
  }

 private:
  void Say(int rank, pipeline::MessageType type, std::vector<std::byte> payload, int64_t step = 0) {
    rank_channels_[rank]->Send(
        {static_cast<uint16_t>(type), static_cast<uint64_t>(step), 0, std::move(payload), 0});
  }
  void Work(int rank) {
    try {
      Say(rank, pipeline::MessageType::kReady, {});
      while (true) {
        const auto frame = rank_channels_[rank]->Receive(std::chrono::milliseconds(200));
        if (!frame.has_value()) {
          Say(rank, pipeline::MessageType::kHeartbeat, Encode(pipeline::Heartbeat{}));
          continue;
        }
        if (rank != (kStages - 1) * kLanes) continue;
        if (frame->type != static_cast<uint16_t>(pipeline::MessageType::kPublish)) continue;
        const step::Step step = step::DecodeStep(frame->payload);
        step::StepResult result{step.id, {}};
        for (const step::StepSequence& sequence : step.sequences) {
          result.sequences.push_back({sequence.sequence, sequence.sample, {1, -1.0F, {}}, {}, {}});
        }
        ++steps_;
        Say(rank, pipeline::MessageType::kResult, Encode(result), step.id);
      }
    } catch (const Error&) {  // the controller has closed the channel
    }
  }

  std::atomic<int64_t>& steps_;
  std::vector<std::unique_ptr<comm::Channel>> channels_;
  std::vector<std::unique_ptr<comm::Channel>> rank_channels_;
  std::vector<std::thread> threads_;
};

// Microseconds of controller CPU per step while `count` equal requests run to their end.
double Measure(int count, int64_t prompt_tokens, int64_t answer_tokens) {
  checkpoint::MakeOptions options;
  options.config_overrides = {"num_hidden_layers=4"};
  checkpoint::ModelConfig config = checkpoint::PlanCheckpoint(options).config;
  engine::JobSettings settings;
  settings.grid = parallel::MakeGrid(kStages, kLanes, kLanes);
  settings.cache_pages = 64 * 1024;
  engine::EngineOptions engine_options;
  engine_options.chunk_rows = kChunkRows;
  engine_options.context_length = int64_t{1} << 20;
  std::atomic<int64_t> steps = 0;
  auto ranks = std::make_unique<IdleRanks>(steps);
  IdleRanks& idle_ranks = *ranks;
  engine::LocalEngine engine(settings, engine_options, config, false, std::move(ranks));

  std::mutex mutex;
  std::condition_variable ended;
  int running = count;
  std::vector<engine::Request> requests(static_cast<size_t>(count));
  // No two begin alike: nothing is cached.
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt.assign(static_cast<size_t>(prompt_tokens), 7);
    requests[i].prompt.front() = static_cast<int32_t>(i);
    requests[i].max_tokens = answer_tokens;
  }
  const double before = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - idle_ranks.cpu_seconds();
  for (engine::Request& request : requests) {
    engine.Submit(std::move(request), [&](const engine::Event& event) {
      if (!event.finish.has_value()) return;
      std::lock_guard lock(mutex);
      --running;
      ended.notify_all();
    });
  }
  std::unique_lock lock(mutex);
  ended.wait(lock, [&] { return running == 0; });
  const double after = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - idle_ranks.cpu_seconds();
  return 1e6 * (after - before) / static_cast<double>(steps.load());
}

void Report(const char* what, int count, int64_t prompt_tokens, int64_t answer_tokens) {
  std::vector<double> figures;
  for (int i = 0; i < kRepeats; ++i) figures.push_back(Measure(count, prompt_tokens, answer_tokens));
  std::ranges::sort(figures);
  fmt::print("{:<44} {:7.1f} us a step (median {:.1f})\n", what, figures.front(), figures[kRepeats / 2]);
  std::fflush(stdout);
}

}  // namespace
}  // namespace sluice

int main() {
  sluice::InitLogging("warning");
  fmt::print("controller CPU at {} ranks, best of {}\n", sluice::kRanks, sluice::kRepeats);
  sluice::Report("prefill, 49,152-token prompts in chunks of 8,192", 40, 49152, 1);
  sluice::Report("decode, 64 sequences", 64, 100, 400);
  sluice::Report("decode, 1 sequence", 1, 100, 1000);
  return 0;
}
