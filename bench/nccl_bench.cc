#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "comm/nccl/nccl_world.h"
#include "comm/on_all_ranks.h"
#include "median.h"

// What the NCCL data plane costs and carries between two GPUs of one host: transfers one way and all-gathers
// of equal parts by size, with NCCL's own number of channels, with a cap, and on copy engines. Device time is
// that of an operation inside a replayed graph, so the host's launches are not in it; the host's form is
// timed by the clock, launches, threads and waits included.
//   nccl_bench
namespace sluice {
namespace {

using comm::CheckCuda;
using comm::NcclCommunicator;
using comm::OnAllRanks;

constexpr int kRanks = 2;
constexpr int kPerGraph = 10;
constexpr int kReplays = 5;
constexpr int kHostRounds = 200;

class TimedEvent {
 public:
  TimedEvent() { CheckCuda(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~TimedEvent() { cudaEventDestroy(event_); }
  TimedEvent(const TimedEvent&) = delete;
  TimedEvent& operator=(const TimedEvent&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Microseconds of one operation in the best of several replays of a graph of them.
double GraphMicroseconds(NcclCommunicator& world, cudaStream_t stream, const std::function<void()>& enqueue) {
  enqueue();
  CheckCuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  CheckCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  for (int i = 0; i < kPerGraph; ++i) enqueue();
  cudaGraph_t graph = nullptr;
  CheckCuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cudaGraphExec_t run = nullptr;
  CheckCuda(cudaGraphInstantiate(&run, graph, 0), "cudaGraphInstantiate");
  double best = 1e30;
  const TimedEvent begin;
  const TimedEvent end;
  for (int replay = 0; replay <= kReplays; ++replay) {
    world.Barrier("replay");
    CheckCuda(cudaEventRecord(begin.get(), stream), "cudaEventRecord");
    CheckCuda(cudaGraphLaunch(run, stream), "cudaGraphLaunch");
    CheckCuda(cudaEventRecord(end.get(), stream), "cudaEventRecord");
    CheckCuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    float milliseconds = 0;
    CheckCuda(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "cudaEventElapsedTime");
    if (replay > 0) best = std::min(best, 1000.0 * static_cast<double>(milliseconds) / kPerGraph);
  }
  world.Barrier("replayed");
  cudaGraphExecDestroy(run);
  cudaGraphDestroy(graph);
  return best;
}

double HostMicroseconds(const std::function<void()>& round) {
  std::vector<double> times;
  for (int i = 0; i < kHostRounds; ++i) {
    const auto begin = Clock::now();
    round();
    times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  return bench::Median(std::move(times));
}

std::string SizeText(size_t bytes) {
  return bytes >= (1U << 20) ? fmt::format("{} MiB", bytes >> 20) : fmt::format("{} KiB", bytes >> 10);
}

using Worlds = std::vector<std::unique_ptr<NcclCommunicator>>;

Worlds MakeWorlds(const comm::NcclConfig& config) {
  Worlds world(kRanks);
  comm::LocalStore store;
  OnAllRanks(kRanks, [&](int rank) {
    comm::NcclConfig own = config;
    own.device = rank;
    world[rank] = comm::MakeNcclWorld(rank, kRanks, store, "127.0.0.1", own, std::chrono::seconds(30));
  });
  return world;
}

void BySize(const std::string& name, const comm::NcclConfig& config, const std::vector<size_t>& sizes) {
  Worlds world = MakeWorlds(config);
  OnAllRanks(kRanks, [&](int rank) {
    const comm::DeviceScope scope(rank);
    NcclCommunicator& self = *world[rank];
    const comm::DeviceStream stream;
    const comm::NcclMemory mine(sizes.back());
    const comm::NcclMemory all(2 * sizes.back());
    std::vector<std::unique_ptr<comm::NcclWindow>> windows;
    if (config.zero_cta) {
      windows.push_back(self.RegisterWindow(mine.bytes()));
      windows.push_back(self.RegisterWindow(all.bytes()));
    }
    for (const size_t bytes : sizes) {
      const auto part = mine.bytes().first(bytes);
      const double one_way = GraphMicroseconds(self, stream.get(), [&] {
        if (rank == 0) self.EnqueueSend(part, stream.get());
        if (rank == 1) self.EnqueueReceive(part, stream.get());
      });
      const std::vector<int64_t> equal(kRanks, static_cast<int64_t>(bytes));
      const double gather = GraphMicroseconds(self, stream.get(), [&] {
        self.EnqueueAllGather(part, all.bytes().first(2 * bytes), equal, stream.get());
      });
      const auto rate = [&](double us) { return static_cast<double>(bytes) / us / 1000.0; };
      if (rank == 1) {
        fmt::print("| {} | {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} |\n", name, SizeText(bytes), one_way,
                   rate(one_way), gather, rate(gather));
      }
    }
    self.Barrier("end");
  });
}

void HostForm() {
  Worlds world = MakeWorlds({});
  OnAllRanks(kRanks, [&](int rank) {
    const comm::DeviceScope scope(rank);
    NcclCommunicator& self = *world[rank];
    const comm::DeviceStream stream;
    const comm::NcclMemory mine(1024);
    const comm::NcclMemory all(2048);
    const std::vector<int64_t> equal(kRanks, 1024);
    const auto print = [&](const char* what, double us) {
      if (rank == 0) fmt::print("| {} | {:.1f} |\n", what, us);
    };
    const double barrier = HostMicroseconds([&] { self.Barrier("barrier"); });
    print("barrier", barrier);
    const auto there_and_back = [&] {
      if (rank == 0) self.Send(1, 1, mine.bytes())->Wait();
      self.Receive(1 - rank, 1, all.bytes().first(1024))->Wait();
      if (rank == 1) self.Send(0, 1, mine.bytes())->Wait();
    };
    there_and_back();
    print("send of 1 KiB there and back, half of it", HostMicroseconds(there_and_back) / 2);
    const auto gather = [&] { self.AllGather("gather", mine.bytes(), all.bytes(), equal); };
    gather();
    print("all-gather of 1 KiB", HostMicroseconds(gather));
    const auto enqueue = [&] { self.EnqueueAllGather(mine.bytes(), all.bytes(), equal, stream.get()); };
    print("enqueueing an all-gather, without waiting for it", HostMicroseconds(enqueue));
    CheckCuda(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
    self.Barrier("end");
  });
}

void Run() {
  int version = 0;
  int driver = 0;
  int found = 0;
  ncclGetVersion(&version);
  cudaDriverGetVersion(&driver);
  if (cudaGetDeviceCount(&found) != cudaSuccess || found < kRanks) {
    Fail(ErrorKind::kUsage, "nccl_bench measures between {} GPUs, and {} are visible here", kRanks, found);
  }
  cudaDeviceProp properties{};
  CheckCuda(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  fmt::print("{}, NCCL {}, driver's CUDA {}\n\n", properties.name, version, driver);
  const std::vector<size_t> sizes = {size_t{1} << 10, size_t{16} << 10, size_t{256} << 10, size_t{1} << 20,
                                     size_t{4} << 20, size_t{16} << 20, size_t{64} << 20,  size_t{256} << 20};
  fmt::print("| channels | bytes | one way, us | GB/s | all-gather, us | GB/s |\n");
  fmt::print("| --- | ---: | ---: | ---: | ---: | ---: |\n");
  BySize("NCCL's own", {}, sizes);
  BySize("at most 4", {.max_channels = 4}, sizes);
  BySize("at most 1", {.max_channels = 1}, sizes);
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
  BySize("copy engines", {.zero_cta = true}, sizes);
#endif
  fmt::print("\n| host's form | us |\n| --- | ---: |\n");
  HostForm();
}

}  // namespace
}  // namespace sluice

int main() {
  try {
    sluice::Run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "nccl_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
