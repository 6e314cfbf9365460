#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "comm/delayed_communicator.h"
#include "comm/ordered_channel.h"
#include "comm/thread_world.h"
#include "engine/rank_set.h"

namespace sluice::engine {
namespace {

class ThreadRanks final : public RankSet {
 public:
  ThreadRanks(const JobSettings& settings, std::shared_ptr<const checkpoint::Checkpoint> checkpoint,
              const RankProbes& probes)
      : settings_(settings), checkpoint_(std::move(checkpoint)), probes_(probes), pool_(Workers(settings)) {
    auto world = comm::MakeThreadWorld(settings.grid.world(), settings.wait_limit);
    for (int rank = 0; rank < settings.grid.world(); ++rank) {
      auto [controller_end, rank_end] = comm::MakeChannelPair();
      channels_.push_back(comm::MakeOrderedChannel(std::move(controller_end)));
      rank_channels_.push_back(comm::MakeOrderedChannel(std::move(rank_end)));
      recorders_.push_back(std::make_unique<trace::Recorder>(rank));
      worlds_.push_back(settings.link_delay > Duration(0)
                            ? comm::MakeDelayed(std::move(world[rank]), settings.link_delay)
                            : std::move(world[rank]));
    }
    for (int rank = 0; rank < settings.grid.world(); ++rank) {
      threads_.emplace_back([this, rank] {
        HostRank(settings_, rank, *checkpoint_, pool_, *worlds_[rank], *rank_channels_[rank],
                 *recorders_[rank], probes_);
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
