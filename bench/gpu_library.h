#pragma once

#include <cuda_runtime.h>

#include <string>

// The day's yardstick: what NVIDIA's own library makes of one large product in this process. Bars that were
// set on another day, on another card of the kind, are scaled by it.
namespace sluice::bench {

struct LibraryFigure {
  double flops = 0.0;  // a second, burst; 0: not measured
  std::string what;    // which product, or why it was not measured
};

// cuBLASLt, loaded if it is there: 8192 x 8192 x 8192 of e4m3 with a scale for each row and each output and
// bf16 out, fast accumulation. `path`: the library; empty: libcublasLt.so.13 or .12 where the loader
// finds it, or in /usr/local/cuda.
LibraryFigure MeasureLibrary(const std::string& path, cudaStream_t stream);

}  // namespace sluice::bench
