#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "gpu_library.h"
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

// What the launch is measured against: figures of the best public kernels on another day.
struct Bar {
  double anchor_us = 0.0;  // 0: there is none
  double most_us = 0.0;    // the bar; 0: none is set
  static Bar Times(double anchor_us, double factor) { return {anchor_us, anchor_us * factor}; }
};

class Bench {
 public:
  struct Options {
    std::string filter;      // only kernels and shapes that have it
    double sustained = 1.2;  // seconds; 0: bursts alone
    std::string cublaslt;    // the library; empty: where the system finds it
  };
  explicit Bench(const Options& options);
  // From now on what was asked to be is timed without a rest. After all bursts, since a card needs longer
  // than a burst's rest to cool down from it. Returns whether there is any.
  bool BeginSustained();
  // Whether "kernel: shape" is selected, and is to be timed now.
  bool Wants(std::string_view kernel, std::string_view shape);
  int sms() const { return limits_.sms; }
  int32_t* counter() { return counter_.as<int32_t>(); }  // gemm.h's TileCounter
  // So many operands of this size do not stay in the L2 cache.
  int64_t Copies(int64_t bytes) const;
  // Times it and prints its line. Returns the seconds of a launch.
  enum class Sustained { kNo, kYes };
  double Time(std::string_view kernel, const std::string& shape, const Floor& floor, const Work& work,
              const Bar& bar = {}, Sustained sustained = Sustained::kNo);
  // A line for several launches together.
  void Sum(std::string_view kernel, const std::string& shape, double seconds, const Bar& bar);
  int timed() const { return timed_; }
  const nlohmann::json& report() const { return report_; }

 private:
  double TimeSustained(nlohmann::json& line, const Work& work);
  nlohmann::json* Find(std::string_view kernel, std::string_view shape);
  void Line(std::string_view kernel, const std::string& shape, nlohmann::json line, const Bar& bar);

  const Options options_;
  ops::cuda::Stream stream_;
  Limits limits_;
  Sensors sensors_;
  DeviceArray counter_{ops::cuda::kCounterNumbers * sizeof(int32_t)};
  LibraryFigure library_;
  double scale_ = 1.0;  // of bars: the anchors' day to this one
  int timed_ = 0;
  bool sustaining_ = false;
  nlohmann::json report_;
};

// Each times what the bench wants of its kernels.
void TimeLinears(Bench& bench);
void TimeIndexer(Bench& bench);
void TimeAttention(Bench& bench);
void TimeOpsOnRows(Bench& bench);

}  // namespace sluice::bench
