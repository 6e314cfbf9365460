#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/offline.h"
#include "layout_world.h"

namespace sluice::pipe {

inline constexpr int64_t kChunkRows = 4;

// A pipeline of real ranks, scheduler and frames, one lane a stage, whose passes sleep instead of computing.
struct Pipe {
  int stages = 2;
  int virtual_stages = 1;
  Duration link{0};  // latency of every hop
  // Of a chunk on a stage, all its visits together; the chunk of a decode row is that of its position.
  std::function<Duration(int64_t chunk)> time;
};

engine::JobSettings SettingsOf(const Pipe& pipe);
std::unique_ptr<engine::RankSet> StartSleepingRanks(const Pipe& pipe);

// What one prompt of `chunks` chunks left in the ranks' records: by stage, in the order computed. Every
// rank's records are checked to tile its time.
struct Traced {
  std::vector<std::vector<trace::PassTimes>> passes;
  std::vector<trace::BusyPeriod> periods;  // by stage, on the controller's clock
  // From the begin of the first pass to the end of the last.
  double makespan() const;
  // Seconds of compute of one stage.
  double compute(int stage) const;
};
class PipeRunner {
 public:
  explicit PipeRunner(const Pipe& pipe);
  Traced Run(int64_t chunks);

 private:
  const Pipe pipe_;
  engine::OfflineRunner runner_;
};

double Seconds(int64_t ns);
inline double Seconds(Duration duration) { return Seconds(duration.count()); }

}  // namespace sluice::pipe
