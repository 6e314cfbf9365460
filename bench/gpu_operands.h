#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpu_timing.h"
#include "ops/cuda/gemm.h"
#include "ops/cuda/index_scores.h"

// Operands of the persistent kernels in device memory, with random contents, for the benchmarks that launch
// them.
namespace sluice::bench {

struct Linear {
  DType type = DType::kF8E4M3;
  int64_t rows = 0, outputs = 0, inputs = 0;
  int64_t experts = 0;  // rows are shared out to them evenly, each with a weight; 0: dense
  int64_t heads = 1;    // columns of a row with a weight each, so far apart:
  int64_t x_step = 0, y_step = 0;
  DType y_type = DType::kBF16;

  int64_t weights() const { return experts > 0 ? experts : heads; }
  int64_t weight_bytes() const { return weights() * outputs * inputs * SizeOf(type); }
  // Few rows for each weight: a launch is short, and reads weights from memory.
  bool few() const { return rows <= 128 || rows < 128 * experts; }
  double operations() const { return 2.0 * static_cast<double>(rows * outputs * inputs * heads); }
  double bytes() const;  // read or written once
  std::string Name() const;
};

class LinearOperands {
 public:
  // With so many copies of the weights; launch i reads copy i % copies.
  explicit LinearOperands(const Linear& linear, int64_t copies = 1);
  ops::cuda::Gemm Launch(int64_t i = 0) const;
  const DeviceArray& y() const { return y_; }

 private:
  Linear linear_;
  int64_t copies_;
  DeviceArray x_, w_, x_scales_, w_scales_, y_, groups_;
};

// The last rows of each of `sequences` contexts, each over the keys that it sees.
class ScoreOperands {
 public:
  ScoreOperands(int64_t heads, int64_t sequences, int64_t rows_each, int64_t context);
  ops::cuda::IndexScores Launch() const;
  const DeviceArray& scores() const { return scores_; }
  double operations() const;
  double bytes() const;  // read or written once

 private:
  int64_t heads_, sequences_, rows_, context_;
  double visible_ = 0.0;  // pairs of a row and a key that it sees
  int32_t group_count_ = 0;
  DeviceArray queries_, gates_, cache_, tables_, scores_;
  DeviceArray positions_, groups_;
};

// The pages of a context, in no order.
std::vector<int32_t> ShuffledPages(int64_t context);

}  // namespace sluice::bench
