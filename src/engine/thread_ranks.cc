#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "comm/ordered_channel.h"
#include "comm/thread_world.h"
#include "engine/faults.h"
#include "engine/rank_set.h"
#include "ops/cuda/device.h"

namespace sluice::engine {
namespace {

class ThreadRanks final : public RankSet {
 public:
  ThreadRanks(const JobSettings& settings, std::shared_ptr<const checkpoint::Checkpoint> checkpoint,
              const RankProbes& probes)
      : settings_(settings), checkpoint_(std::move(checkpoint)), probes_(probes), pool_(Workers(settings)) {
    comm::CheckRunsInThreads(settings.fault_plan);
    // Ranks that compute on a GPU exchange their rows in its memory.
    Memory& memory = settings.ops == "cuda" ? ops::cuda::DeviceMemory(settings.gpu) : HostMemory();
    comm::ReceiveHold hold;
    // On one stage there is no hop: lanes take nothing but tokens from one another, on the host.
    if (settings.hop_receive == HopReceive::kHoldsSm && settings.grid.stages > 1) {
      hold = {1, ops::cuda::MakeSmHolder(settings.gpu, settings.grid.world())};
    }
    auto world =
        comm::MakeThreadWorld(settings.grid.world(), settings.data_plane_limit(), memory, std::move(hold));
    for (int rank = 0; rank < settings.grid.world(); ++rank) {
      auto [controller_end, rank_end] = comm::MakeChannelPair();
      injectors_.push_back(MakeInjector(settings, rank, RankKind::kThread, *rank_end));
      channels_.push_back(
          comm::MakeOrderedChannel(WithPublishFaults(std::move(controller_end), settings, rank)));
      rank_channels_.push_back(
          comm::MakeOrderedChannel(WithRankFaults(std::move(rank_end), injectors_.back())));
      recorders_.push_back(std::make_unique<trace::Recorder>(
          rank, trace::kDefaultSpans, trace::kDefaultPasses, std::max<size_t>(1, settings.trace_events)));
      worlds_.push_back(WithDataFaults(std::move(world[rank]), injectors_.back()));
    }
    for (int rank = 0; rank < settings.grid.world(); ++rank) {
      threads_.emplace_back([this, rank] {
        HostRank(settings_, rank, *checkpoint_, pool_, *worlds_[rank], *rank_channels_[rank],
                 *recorders_[rank], injectors_[rank].get(), probes_, &weights_);
        rank_channels_[rank]->Close();
      });
    }
  }
  ~ThreadRanks() override { Stop(Duration(0)); }

  comm::Channel& channel(int rank) override { return *channels_[rank]; }
  std::string ReasonGone(int) override { return ""; }
  int ProcessId(int) override { return -1; }

  // A thread cannot be ended from outside: the shutdown frame or the closed channel aborts its waits.
  void Stop(Duration) override {
    for (auto& channel : channels_) channel->Close();
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

 private:
  // A rank's own thread works on its loops as well, so the ranks together keep every core busy even with no
  // workers; with fewer ranks than cores, workers fill the rest.
  static int Workers(const JobSettings& settings) {
    const int cores = settings.compute_threads > 0 ? settings.compute_threads
                                                   : static_cast<int>(std::thread::hardware_concurrency());
    return std::max(0, cores - 1);
  }

  JobSettings settings_;
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint_;
  RankProbes probes_;
  ComputePool pool_;
  model::WeightStore weights_;
  std::vector<std::shared_ptr<comm::FaultInjector>> injectors_;
  std::vector<std::unique_ptr<comm::Channel>> channels_;
  std::vector<std::unique_ptr<comm::Channel>> rank_channels_;
  std::vector<std::unique_ptr<trace::Recorder>> recorders_;
  std::vector<std::unique_ptr<comm::Communicator>> worlds_;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<RankSet> StartThreadRanks(const JobSettings& settings,
                                          std::shared_ptr<const checkpoint::Checkpoint> checkpoint,
                                          const RankProbes& probes) {
  return std::make_unique<ThreadRanks>(settings, std::move(checkpoint), probes);
}

}  // namespace sluice::engine
