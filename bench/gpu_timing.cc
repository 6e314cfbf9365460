#include "gpu_timing.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>

#include "gpu_event.h"
#include "median.h"
#include "tensor/dtype.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;

constexpr int kBursts = 3;
constexpr int kTimed = 3;
constexpr std::chrono::milliseconds kRest{50};
constexpr int64_t kPatternBytes = 16 << 20;

template <typename T, typename Make>
std::vector<T> Pattern(Make make) {
  std::mt19937 random(1);
  std::vector<T> values(kPatternBytes / sizeof(T));
  for (T& value : values) value = make(random);
  return values;
}

// So many launches of the work, as something that is launched at once.
class Graph {
 public:
  Graph(const Work& work, cudaStream_t stream) {
    Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "beginning a graph");
    for (int i = 0; i < work.per_graph; ++i) work.enqueue(i, stream);
    cudaGraph_t graph = nullptr;
    Check(cudaStreamEndCapture(stream, &graph), "ending a graph");
    Check(cudaGraphInstantiate(&run_, graph, 0), "making a graph");
    cudaGraphDestroy(graph);
  }
  ~Graph() { cudaGraphExecDestroy(run_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void Launch(cudaStream_t stream) const { Check(cudaGraphLaunch(run_, stream), "launching a graph"); }

 private:
  cudaGraphExec_t run_ = nullptr;
};

}  // namespace

std::span<const std::byte> RandomCodes() {
  static const auto pattern =
      Pattern<F8E4M3>([normal = std::normal_distribution<float>()](auto& random) mutable {
        return ToF8E4M3(60.0F * normal(random));
      });
  return std::as_bytes(std::span(pattern));
}
std::span<const std::byte> RandomBf16() {
  static const auto pattern = Pattern<BF16>(
      [normal = std::normal_distribution<float>()](auto& random) mutable { return ToBF16(normal(random)); });
  return std::as_bytes(std::span(pattern));
}
std::span<const std::byte> RandomFloats() {
  static const auto pattern = Pattern<float>(
      [normal = std::normal_distribution<float>()](auto& random) mutable { return normal(random); });
  return std::as_bytes(std::span(pattern));
}
std::span<const std::byte> RandomScales() {
  static const auto pattern =
      Pattern<float>([](auto& random) { return std::ldexp(1.0F, -6 - static_cast<int>(random() % 5)); });
  return std::as_bytes(std::span(pattern));
}

DeviceArray::DeviceArray(int64_t bytes, std::span<const std::byte> pattern) : bytes_(bytes) {
  Check(cudaMalloc(&data_, static_cast<size_t>(std::max<int64_t>(bytes, 1))), "allocating {} bytes", bytes);
  if (pattern.empty()) {
    Check(cudaMemset(data_, 0, static_cast<size_t>(bytes)), "clearing {} bytes", bytes);
  }
  // From the host once, then what is there is doubled.
  for (int64_t done = 0; !pattern.empty() && done < bytes;) {
    const int64_t part = std::min(done == 0 ? std::ssize(pattern) : done, bytes - done);
    Check(
        cudaMemcpy(as(done), done == 0 ? pattern.data() : as(), static_cast<size_t>(part), cudaMemcpyDefault),
        "filling {} bytes", bytes);
    done += part;
  }
  Check(cudaDeviceSynchronize(), "filling {} bytes", bytes);
}

// The few functions of NVML that are wanted, by their C interface; the library belongs to the driver, so a
// build needs nothing of it.
struct Sensors::State {
  using Device = void*;
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  Device device = nullptr;
  int (*clock)(Device, int, unsigned*) = nullptr;
  int (*power)(Device, unsigned*) = nullptr;
  std::string driver;
  std::mutex mutex;
  Reading reading;
  std::atomic<bool> end = false;
  std::thread thread;

  template <typename F>
  void Find(F*& function, const char* name) const {
    function = library == nullptr ? nullptr : reinterpret_cast<F*>(dlsym(library, name));
  }
  void Sample() {
    constexpr int kSmClock = 1;
    unsigned mhz = 0;
    unsigned milliwatts = 0;
    const bool has_clock = clock != nullptr && clock(device, kSmClock, &mhz) == 0;
    const bool has_power = power != nullptr && power(device, &milliwatts) == 0;
    const std::lock_guard lock(mutex);
    if (has_clock && (reading.lowest_mhz == 0 || static_cast<int>(mhz) < reading.lowest_mhz)) {
      reading.lowest_mhz = static_cast<int>(mhz);
    }
    if (has_power) reading.most_watts = std::max(reading.most_watts, milliwatts / 1e3);
  }
};

Sensors::Sensors() : state_(std::make_unique<State>()) {
  int (*init)() = nullptr;
  int (*find)(const char*, State::Device*) = nullptr;
  int (*driver)(char*, unsigned) = nullptr;
  state_->Find(init, "nvmlInit_v2");
  state_->Find(find, "nvmlDeviceGetHandleByPciBusId_v2");
  state_->Find(driver, "nvmlSystemGetDriverVersion");
  int current = 0;
  std::array<char, 32> bus{};
  Check(cudaGetDevice(&current), "finding the device");
  Check(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), current), "finding the device");
  if (init == nullptr || find == nullptr || init() != 0 || find(bus.data(), &state_->device) != 0) return;
  state_->Find(state_->clock, "nvmlDeviceGetClockInfo");
  state_->Find(state_->power, "nvmlDeviceGetPowerUsage");
  std::array<char, 96> version{};
  if (driver != nullptr && driver(version.data(), static_cast<unsigned>(version.size())) == 0) {
    state_->driver = version.data();
  }
  state_->thread = std::thread([state = state_.get()] {
    while (!state->end) {
      state->Sample();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
}

Sensors::~Sensors() {
  state_->end = true;
  if (state_->thread.joinable()) state_->thread.join();
}

Sensors::Reading Sensors::Take() {
  const std::lock_guard lock(state_->mutex);
  return std::exchange(state_->reading, {});
}

std::string Sensors::DriverVersion() const { return state_->driver; }

Limits MeasureLimits(cudaStream_t stream) {
  Limits limits;
  int device = 0;
  int kilohertz = 0;
  int cache = 0;
  Check(cudaGetDevice(&device), "finding the device");
  Check(cudaDeviceGetAttribute(&limits.sms, cudaDevAttrMultiProcessorCount, device), "counting SMs");
  Check(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, device), "reading the clock");
  Check(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device), "reading the cache's size");
  limits.clock = 1e3 * kilohertz;
  limits.second_level_bytes = cache;
  const DeviceArray from(int64_t{2} << 30, RandomBf16());
  const DeviceArray to(from.bytes());
  const auto copy = [&](int, cudaStream_t on) {
    Check(
        cudaMemcpyAsync(to.as(), from.as(), static_cast<size_t>(from.bytes()), cudaMemcpyDeviceToDevice, on),
        "copying");
  };
  limits.copy = 2.0 * static_cast<double>(from.bytes()) / BurstSeconds({copy}, stream);
  return limits;
}

namespace {

// Launches of a piece of work, one after the other or, as a graph, several at once.
class Launcher {
 public:
  Launcher(const Work& work, cudaStream_t stream) : work_(work), stream_(stream) {
    work.enqueue(0, stream);  // loads the kernel
    Check(cudaStreamSynchronize(stream), "the first launch");
    if (work.per_graph > 1) graph_ = std::make_unique<Graph>(work, stream);
  }
  void operator()() {
    if (graph_) return graph_->Launch(stream_);
    work_.enqueue(launches_++, stream_);
  }

 private:
  const Work& work_;
  const cudaStream_t stream_;
  std::unique_ptr<Graph> graph_;
  int launches_ = 0;
};

}  // namespace

double BurstSeconds(const Work& work, cudaStream_t stream) {
  Launcher launch(work, stream);
  std::vector<double> times;
  for (int burst = 0; burst < kBursts; ++burst) {
    std::this_thread::sleep_for(kRest);
    std::array<Event, kTimed + 1> events;
    launch();
    events[0].Record(stream);
    for (int i = 1; i <= kTimed; ++i) {
      launch();
      events[i].Record(stream);
    }
    Check(cudaStreamSynchronize(stream), "a burst");
    for (int i = 1; i <= kTimed; ++i) times.push_back(events[i].MsSince(events[i - 1]) / 1e3);
  }
  return Median(std::move(times)) / work.per_graph;
}

double SustainedSeconds(const Work& work, double each, double duration, cudaStream_t stream) {
  constexpr double kLeast = 2e-3;  // between two events
  Launcher launch(work, stream);
  const double at_once = each * work.per_graph;
  const int launches = std::max(1, static_cast<int>(kLeast / at_once));
  const int parts = std::max(4, static_cast<int>(duration / (at_once * launches)));
  std::vector<Event> events(static_cast<size_t>(parts) + 1);
  events[0].Record(stream);
  for (int part = 1; part <= parts; ++part) {
    for (int i = 0; i < launches; ++i) launch();
    events[part].Record(stream);
  }
  Check(cudaStreamSynchronize(stream), "launches without a rest");
  std::vector<double> times;
  for (int part = parts / 2 + 1; part <= parts; ++part) {
    times.push_back(events[part].MsSince(events[part - 1]) / 1e3);
  }
  return Median(std::move(times)) / (launches * work.per_graph);
}

}  // namespace sluice::bench
