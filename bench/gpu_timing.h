#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/cuda/stream.h"

// What benchmarks of GPU kernels share: operands with random contents in device memory, times of bursts, and
// the card's limits, clock and power.
namespace sluice::bench {

// Values as kernels get them: codes of a wide spread, unit normals, powers of two from 2^-10 to 2^-6.
std::span<const std::byte> RandomCodes();   // e4m3, no NaN
std::span<const std::byte> RandomBf16();    // bf16
std::span<const std::byte> RandomFloats();  // fp32
std::span<const std::byte> RandomScales();  // fp32

class DeviceArray {
 public:
  // `pattern` over and over; none: zeros.
  explicit DeviceArray(int64_t bytes, std::span<const std::byte> pattern = {});
  template <typename T>
  explicit DeviceArray(const std::vector<T>& values)
      : DeviceArray(static_cast<int64_t>(values.size() * sizeof(T)), std::as_bytes(std::span(values))) {}
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  template <typename T = std::byte>
  T* as(int64_t element = 0) const {
    return static_cast<T*>(data_) + element;
  }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// The clock and power of the current device, sampled by a thread; from the driver's own library (NVML).
class Sensors {
 public:
  Sensors();
  ~Sensors();
  Sensors(const Sensors&) = delete;
  Sensors& operator=(const Sensors&) = delete;
  struct Reading {
    int lowest_mhz = 0;  // of the SMs; 0: not known
    double most_watts = 0.0;
  };
  // Of the samples since the last call.
  Reading Take();
  std::string DriverVersion() const;  // empty: not known

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct Limits {
  int sms = 0;
  double clock = 0.0;              // Hz, the highest of the SMs
  double copy = 0.0;               // bytes per second of a large copy, read and written ones counted
  int64_t second_level_bytes = 0;  // of the L2 cache
  // What the tensor cores do at that clock: 8192 FLOP for each clock and SM, half of it for bf16.
  double Fp8() const { return 8192.0 * sms * clock; }
  double Bf16() const { return Fp8() / 2.0; }
};
Limits MeasureLimits(cudaStream_t stream);

// One piece of work of a benchmark.
struct Work {
  // Enqueues launch number i; operands may go by i, so that they do not stay in the L2 cache.
  std::function<void(int i, cudaStream_t stream)> enqueue;
  // Above 1: so many launches are one graph, and the time is that of its replay divided by them. For work so
  // short that the host's part of a launch would be seen.
  int per_graph = 1;
};

// Median seconds of a launch. A burst is 50 ms of rest, one launch or graph untimed and three timed; there
// are three bursts. Rested like that, a card keeps its highest clock.
double BurstSeconds(const Work& work, cudaStream_t stream);

// Median seconds of a launch in the second half of `duration` seconds of nothing else; `each`: about what one
// takes. Held down like that, tensor work reaches the card's power limit and the clock falls.
double SustainedSeconds(const Work& work, double each, double duration, cudaStream_t stream);

}  // namespace sluice::bench
