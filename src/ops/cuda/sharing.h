#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "tensor/device_sharing.h"

namespace sluice::ops::cuda {

// GPU `device`'s memory and events by CUDA IPC. For processes in whose sight the same GPUs are; several of
// them may use one GPU.
class CudaSharing final : public DeviceSharing {
 public:
  explicit CudaSharing(int device) : device_(device) {}
  std::string Host() override;
  std::string Device() override;
  std::string WhyNotTo(const std::string& device) override;
  Name NameOf(const std::byte* memory) override;
  std::shared_ptr<std::byte> Open(const Name& memory) override;
  std::unique_ptr<StreamMark> NewMark() override;
  void Record(WorkStream& stream, StreamMark& mark) override;
  Name NameOf(const StreamMark& mark) override;
  std::unique_ptr<StreamMark> OpenMark(const Name& mark) override;
  // Whether memory that begins there has a name.
  bool IsNamed(const std::byte* memory) const;

 private:
  void Use() const;
  const int device_;
  mutable std::mutex mutex_;
  std::set<const std::byte*> named_;
};

}  // namespace sluice::ops::cuda
