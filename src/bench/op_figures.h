#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/fma_peak.h"
#include "checkpoint/model_config.h"
#include "ops/ops.h"

namespace sluice::bench {

struct OpFigure {
  std::string name;
  int64_t rows = 0;
  double operations = 0.0;  // floating point operations of one call
  double seconds = 0.0;     // of the fastest call
};

struct OpFigures {
  VectorUnit unit;
  int threads = 0;
  double peak = 0.0;  // operations a second of independent FMAs on all threads, the best of the run
  std::vector<OpFigure> ops;
};

struct OpOptions {
  int threads = 1;
  std::vector<int64_t> rows;
  int64_t context = 32768;  // keys that are scored; a multiple of 64
  double seconds = 0.1;     // of each measurement; one call at least
};

// The CPU back end's heavy ops at the shapes of one layer of this model, whole (tp 1): its linears, and in
// kExact the index scores with their top-k and the sparse attention. Weights and inputs are random. The peak
// is measured before every op, so that a neighbour who slows one slows the other.
OpFigures MeasureOps(const checkpoint::ModelConfig& config, ops::Numerics numerics, const OpOptions& options);

}  // namespace sluice::bench
