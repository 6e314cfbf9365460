#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "gpu_timing.h"
#include "ops/cuda/check.h"
#include "ops/cuda/gemm.h"

// The parts of gpu_ops_bench: the table, and who fills it.
namespace sluice::bench {

inline constexpr int kPerGraph = 20;
inline constexpr int64_t kFewRows = 128;  // up to here a launch is timed in a graph, with other operands each

enum class Unit { kFp8, kBf16, kNone };  // of the tensor cores

// What one launch must do: operations, and bytes read or written at least once.
struct Floor {
  Unit unit = Unit::kNone;
  double operations = 0.0;
  double bytes = 0.0;
};

class Bench {
 public:
  // `part`: only kernels whose name has it.
  explicit Bench(std::string_view part);
  bool Wants(std::string_view kernel) const { return kernel.find(part_) != std::string_view::npos; }
  int sms() const { return limits_.sms; }
  int32_t* counter() { return counter_.as<int32_t>(); }  // gemm.h's TileCounter
  // So many operands of this size do not stay in the L2 cache.
  int64_t Copies(int64_t bytes) const;
  // Times it and prints its line.
  void Time(std::string_view kernel, const std::string& shape, const Floor& floor, const Work& work);
  int timed() const { return timed_; }

 private:
  std::string_view part_;
  ops::cuda::Stream stream_;
  Limits limits_;
  Sensors sensors_;
  DeviceArray counter_{ops::cuda::kCounterNumbers * sizeof(int32_t)};
  int timed_ = 0;
};

// Each times what the bench wants of its kernels.
void TimeLinears(Bench& bench);
void TimeAttention(Bench& bench);  // the indexer too
void TimeOpsOnRows(Bench& bench);

}  // namespace sluice::bench
