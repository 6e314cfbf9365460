#include "ops/cuda/sharing.h"

#include <cuda_runtime.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <optional>

#include "ops/cuda/check.h"
#include "ops/cuda/event.h"
#include "ops/cuda/stream.h"

namespace sluice::ops::cuda {
namespace {

constexpr unsigned kBetweenProcesses = cudaEventDisableTiming | cudaEventInterprocess;

template <typename Handle>
DeviceSharing::Name NameBy(const Handle& handle) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&handle);
  return {bytes, bytes + sizeof(handle)};
}

template <typename Handle>
Handle HandleOf(const DeviceSharing::Name& name) {
  Handle handle;
  if (name.size() != sizeof(handle)) {
    Fail(ErrorKind::kInternal, "another process names something of a GPU by {} bytes in place of {}",
         name.size(), sizeof(handle));
  }
  std::memcpy(&handle, name.data(), sizeof(handle));
  return handle;
}

// The number by which all processes know a GPU, whatever they call it.
std::string IdOf(int device) {
  cudaDeviceProp properties{};
  Check(cudaGetDeviceProperties(&properties, device), "asking what GPU {} is", device);
  std::string id;
  for (const char byte : properties.uuid.bytes) id += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return id;
}

std::optional<int> DeviceWith(const std::string& id) {
  int devices = 0;
  Check(cudaGetDeviceCount(&devices), "counting GPUs");
  for (int device = 0; device < devices; ++device) {
    if (IdOf(device) == id) return device;
  }
  return std::nullopt;
}

}  // namespace

void CudaSharing::Use() const { Check(cudaSetDevice(device_), "choosing GPU {}", device_); }

// Of this start of this machine: names of hosts need not differ.
std::string CudaSharing::Host() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

std::string CudaSharing::Device() { return IdOf(device_); }

std::string CudaSharing::WhyNotTo(const std::string& device) {
  const std::optional<int> other = DeviceWith(device);
  if (!other.has_value()) return fmt::format("its GPU is none of those that GPU {}'s process sees", device_);
  if (*other == device_) return "";
  int reaches = 0;
  Check(cudaDeviceCanAccessPeer(&reaches, device_, *other), "asking what GPU {} reaches", device_);
  return reaches != 0 ? "" : fmt::format("GPU {} cannot reach the memory of GPU {}", device_, *other);
}

DeviceSharing::Name CudaSharing::NameOf(const std::byte* memory) {
  Use();
  cudaIpcMemHandle_t handle;
  Check(cudaIpcGetMemHandle(&handle, const_cast<std::byte*>(memory)), "naming memory for another process");
  std::lock_guard lock(mutex_);
  named_.insert(memory);
  return NameBy(handle);
}

bool CudaSharing::IsNamed(const std::byte* memory) const {
  std::lock_guard lock(mutex_);
  return named_.contains(memory);
}

std::shared_ptr<std::byte> CudaSharing::Open(const Name& memory) {
  Use();
  void* opened = nullptr;
  Check(cudaIpcOpenMemHandle(&opened, HandleOf<cudaIpcMemHandle_t>(memory), cudaIpcMemLazyEnablePeerAccess),
        "opening another process's memory");
  return {static_cast<std::byte*>(opened), [](std::byte* address) { cudaIpcCloseMemHandle(address); }};
}

std::unique_ptr<StreamMark> CudaSharing::NewMark() {
  Use();
  return std::make_unique<Event>(kBetweenProcesses);
}

void CudaSharing::Record(WorkStream& stream, StreamMark& mark) {
  Check(cudaEventRecord(dynamic_cast<const Event&>(mark).get(), dynamic_cast<const Stream&>(stream)),
        "recording an event");
}

DeviceSharing::Name CudaSharing::NameOf(const StreamMark& mark) {
  Use();
  cudaIpcEventHandle_t handle;
  Check(cudaIpcGetEventHandle(&handle, dynamic_cast<const Event&>(mark).get()),
        "naming an event for another process");
  return NameBy(handle);
}

std::unique_ptr<StreamMark> CudaSharing::OpenMark(const Name& mark) {
  Use();
  cudaEvent_t opened = nullptr;
  Check(cudaIpcOpenEventHandle(&opened, HandleOf<cudaIpcEventHandle_t>(mark)),
        "opening another process's event");
  return std::make_unique<Event>(opened);
}

}  // namespace sluice::ops::cuda
