#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/nccl/nccl_world.h"
#include "comm/test_worlds.h"

// Worlds of this machine's GPUs, ranks as threads of the test.
namespace sluice::comm {

// The GPUs that ranks can have; 0 where there is no driver.
inline int Gpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

// The parameter of tests that need exactly two.
inline std::vector<int> TwoGpus() { return Gpus() < 2 ? std::vector<int>{} : std::vector<int>{2}; }

// Device memory with a host's view of it. Copies are complete when they return.
class DeviceBytes {
 public:
  DeviceBytes(int device, size_t bytes) : device_(device), bytes_(bytes) {
    const DeviceScope scope(device_);
    CheckCuda(cudaMalloc(&data_, std::max<size_t>(bytes, 1)), "cudaMalloc");
    CheckCuda(cudaMemset(data_, 0xee, std::max<size_t>(bytes, 1)), "cudaMemset");
    CheckCuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }
  DeviceBytes(int device, const std::vector<std::byte>& host) : DeviceBytes(device, host.size()) {
    Put(host);
  }
  ~DeviceBytes() { cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  std::span<std::byte> span() const { return {static_cast<std::byte*>(data_), bytes_}; }
  void Put(const std::vector<std::byte>& host) { Copy(data_, host.data(), cudaMemcpyHostToDevice); }
  std::vector<std::byte> Get() const {
    std::vector<std::byte> host(bytes_);
    Copy(host.data(), data_, cudaMemcpyDeviceToHost);
    return host;
  }

 private:
  void Copy(void* to, const void* from, cudaMemcpyKind kind) const {
    const DeviceScope scope(device_);
    const DeviceStream stream;
    CheckCuda(cudaMemcpyAsync(to, from, bytes_, kind, stream.get()), "cudaMemcpyAsync");
    CheckCuda(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize");
  }

  const int device_;
  const size_t bytes_;
  void* data_ = nullptr;
};

// True once nothing runs on the stream any more.
inline bool Drains(cudaStream_t stream) {
  const Deadline limit = Clock::now() + std::chrono::seconds(5);
  while (cudaStreamQuery(stream) == cudaErrorNotReady) {
    if (Clock::now() >= limit) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

using NcclRanks = std::vector<std::unique_ptr<NcclCommunicator>>;

inline NcclRanks MakeNcclRanks(int size, Duration timeout, NcclConfig config = {}) {
  NcclRanks world(static_cast<size_t>(size));
  LocalStore store;
  OnAllRanks(size, [&](int rank) {
    NcclConfig own = config;
    own.device = rank;
    world[rank] = MakeNcclWorld(rank, size, store, kLoopback, own, timeout);
  });
  return world;
}

// What a captured stream would run.
struct Captured {
  int kernels = 0;
  int copies = 0;
  unsigned widest = 0;  // blocks of the widest kernel
};

// Captures what `enqueue` puts on `stream`. Leaves the graph in `graph`, which the caller destroys.
inline Captured Capture(cudaStream_t stream, const std::function<void()>& enqueue, cudaGraph_t* graph) {
  CheckCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  enqueue();
  CheckCuda(cudaStreamEndCapture(stream, graph), "cudaStreamEndCapture");
  size_t count = 0;
  CheckCuda(cudaGraphGetNodes(*graph, nullptr, &count), "cudaGraphGetNodes");
  std::vector<cudaGraphNode_t> nodes(count);
  CheckCuda(cudaGraphGetNodes(*graph, nodes.data(), &count), "cudaGraphGetNodes");
  // NCCL launches through the driver, and only the driver knows its kernels and all kinds of nodes.
  const auto entry = [](const char* name) {
    void* address = nullptr;
    cudaDriverEntryPointQueryResult found{};
    CheckCuda(cudaGetDriverEntryPointByVersion(name, &address, 12000, cudaEnableDefault, &found), name);
    return address;
  };
  const auto get_type =
      reinterpret_cast<CUresult (*)(CUgraphNode, CUgraphNodeType*)>(entry("cuGraphNodeGetType"));
  const auto get_params = reinterpret_cast<CUresult (*)(CUgraphNode, CUDA_KERNEL_NODE_PARAMS*)>(
      entry("cuGraphKernelNodeGetParams"));
  Captured captured;
  for (cudaGraphNode_t node : nodes) {
    CUgraphNodeType type{};
    EXPECT_EQ(get_type(node, &type), CUDA_SUCCESS);
    if (type == CU_GRAPH_NODE_TYPE_MEMCPY) ++captured.copies;
    if (type != CU_GRAPH_NODE_TYPE_KERNEL) continue;
    ++captured.kernels;
    CUDA_KERNEL_NODE_PARAMS params{};
    EXPECT_EQ(get_params(node, &params), CUDA_SUCCESS);
    captured.widest = std::max(captured.widest, params.gridDimX);
  }
  return captured;
}

}  // namespace sluice::comm
