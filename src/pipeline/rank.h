#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "comm/channel.h"
#include "comm/communicator.h"
#include "model/stage_model.h"
#include "parallel/grid.h"
#include "parallel/layer_cut.h"
#include "pipeline/decode_graphs.h"
#include "pipeline/groups.h"
#include "pipeline/hop.h"
#include "pipeline/messages.h"
#include "pipeline/token_relay.h"
#include "pipeline/turns.h"
#include "step/step.h"
#include "trace/recorder.h"

namespace sluice::pipeline {

// What a rank must know before it starts; equal on all ranks but for `rank`.
struct RankOptions {
  parallel::Grid grid;
  int rank = 0;
  std::vector<parallel::LayerRange> layer_cut;  // one range per virtual stage
  parallel::SplitMode split_mode = parallel::SplitMode::kInterleave;
  int expert_owners = 1;
  bool dense_tp = false;
  bool load_nextn = false;  // the last stage holds the nextn layers, too
  int64_t cache_pages = 0;
  int max_steps_in_flight = 8;
  std::optional<int> sm_reserve;  // SMs that kernels leave; none: as the hop says
  step::StepLimits largest_step;  // on a device the memory for it is taken before the first step
  std::vector<int64_t>
      graph_rows;  // rows of the decode steps that are recorded as graphs, where there are any
  bool events_on_failure = false;  // a rank that fails sends its events before it says so
  std::function<void(int64_t step)>
      at_pass;  // called as a pass begins, if there; what it throws ends the rank
};

// The part of the model that `options.rank` holds.
model::StageSlice SliceOf(const RankOptions& options);

// What a rank takes for its passes when it starts, in bytes of its back end's memory and, for the inside of
// ops, as limits.
// `fp8_experts`: see model::PassLimits.
struct PassMemory {
  int64_t activations = 0;  // its arena
  int64_t hop = 0;          // rows on their way to it and from it, and where graphs have them
  ops::OpLimits ops;
};
PassMemory PassMemoryOf(const RankOptions& options, const checkpoint::ModelConfig& config,
                        ops::Numerics numerics, ops::CacheFormat cache_format, bool fp8_experts);

// Tells the controller why this rank ends. A controller that is gone as well is not an error.
void ReportFailure(comm::Channel& control, const Failure& failure);

// One rank at work: computes the passes the controller publishes, in their order, each as
//
//   rows from the stage before (or the embedding) -> the layers of this visit -> rows to the stage after
//   (or head, sampling, the tokens to the first stage and the result frame, on lane 0 of the last stage)
//
// Ranks never decide: what is computed, and when, stands in the published list alone.
//
// Two threads: Run's computes; another reads control frames, posts nothing and computes nothing, and sends a
// heartbeat every 200 ms, also while the first one waits.
class Rank {
 public:
  // `world` spans all ranks, `groups` are this one's in it; `recorder` belongs to this rank; both outlive the
  // Rank, as does `control`.
  Rank(RankOptions options, std::unique_ptr<model::StageModel> stage, ops::Ops& ops,
       comm::Communicator& world, Groups groups, comm::Channel& control, trace::Recorder& recorder);
  ~Rank();

  // Reports readiness and works until the controller says shutdown or goes away. Throws nothing: an error
  // ends the work, is reported to the controller in a frame, and comes back as its sentence (empty: a clean
  // end).
  std::string Run();

 private:
  // A pass of the list; the step is shared by its visits.
  struct PassWork {
    std::shared_ptr<const step::Step> step;
    int32_t visit = 0;
    PassId id() const { return {step->id, visit}; }
  };
  // The next thing to do: a pass, or a dump where that is not null.
  struct Work {
    PassWork pass;
    std::shared_ptr<const DumpRequest> dump;
  };

  void ReserveMemory();
  void RecordGraphs();
  void ReadControl();
  // The pass that a kPublish or kPass frame puts on the list. Throws Error(kRankLost) for one out of order.
  PassWork NextOnList(const comm::Frame& frame);
  // `asked`: the number of the request this answers, 0 for none.
  void SendHeartbeat(uint64_t asked);
  void SendEvents();
  bool HasWork();
  std::optional<Work> NextWork();
  void ExpectPublished();
  void ComputePass(const PassWork& work);

  RankOptions options_;
  std::unique_ptr<model::StageModel> stage_;
  ops::Ops& ops_;
  comm::Communicator& world_;
  comm::Channel& control_;
  trace::Recorder& recorder_;
  std::unique_ptr<comm::Communicator> lanes_;
  std::unique_ptr<comm::Communicator> heads_;  // null where attention is not cut by heads
  Hop hop_;
  TokenRelay tokens_;
  Arena arena_;
  DecodeGraphs graphs_;
  Buffer rows_;  // of the pass at work; not its own to free, which on a GPU could wait for other ranks

  std::mutex mutex_;
  std::condition_variable work_arrived_;
  std::deque<Work> work_;
  int64_t next_step_ = 0;              // the one that kPublish must bring; of the thread that reads frames
  std::map<int64_t, PassWork> begun_;  // likewise: steps with visits to come, and the last one listed
  bool stopping_ = false;
  std::string lost_controller_;  // why the control channel ended, if it did

  std::atomic<int64_t> rows_computed_{0};
  std::atomic<int64_t> received_step_{-1};
};

}  // namespace sluice::pipeline
