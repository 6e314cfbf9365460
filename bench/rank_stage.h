#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "comm/communicator.h"
#include "gpu_event.h"
#include "model/stage_model.h"
#include "parallel/layer_cut.h"
#include "timed_ops.h"
#include "trace/recorder.h"

namespace sluice::bench {

struct StageOptions {
  std::string model = "random:v3.2";
  int stages = 2;
  int stage = 0;
  int lanes = 8;
  int lane = 0;
  int64_t chunk = 8192;
  int64_t prompt = 48500;
  std::string cache = "fp8_e4m3";
};

// One rank of a large layout on GPU 0: its stage's layers, and everything a pass needs. What absent lanes
// would give is a replay of its own rows (comm/replay_world.h).
class RankStage {
 public:
  explicit RankStage(const StageOptions& options);

  struct Pass {
    double device_ms = 0.0;    // between events on the rank's stream around the layers
    double host_ms = 0.0;      // until all is enqueued
    double exchange_ms = 0.0;  // the host's, in exchanges with the lanes
    int64_t bytes_received = 0;
    std::vector<TimedCall> calls;  // as asked for
  };
  // The chunk of `rows` rows, over all lanes, behind `first` that are in the cache.
  Pass Compute(int64_t first, int64_t rows, Timing timing = Timing::kNone);

  const parallel::LayerRange& layers() const { return layers_; }

 private:
  void Fill(const Tensor& x, int64_t seed);
  double ExchangeMs(int64_t since_ns) const;

  const StageOptions options_;
  const std::unique_ptr<checkpoint::Checkpoint> checkpoint_;
  const std::unique_ptr<TimedOps> ops_;
  ops::cuda::Stream& stream_;
  trace::Recorder recorder_;
  const std::unique_ptr<comm::Communicator> world_;
  Arena arena_;
  std::unique_ptr<model::StageModel> model_;
  parallel::LayerRange layers_;
  std::vector<int32_t> pages_;
  Event begin_, end_;
};

}  // namespace sluice::bench
