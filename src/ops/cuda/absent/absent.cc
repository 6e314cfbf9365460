#include "ops/cuda/device.h"

namespace sluice::ops::cuda {
namespace {

[[noreturn]] void Refuse() {
  Fail(ErrorKind::kUsage,
       "this build of sluice has no GPU back end: use --ops cpu, or build with `cmake --preset cuda` where a "
       "CUDA "
       "toolkit and NCCL are installed");
}

}  // namespace

int Devices() { return 0; }
void CheckDevice(int) { Refuse(); }
Memory& DeviceMemory(int) { Refuse(); }
DeviceSharing& SharingOf(int) { Refuse(); }
Memory& PinnedMemory(int) { Refuse(); }
void LeaveDevice(int) { Refuse(); }
MemoryInfo MemoryOf(int) { Refuse(); }
std::unique_ptr<Ops> MakeCudaOps(int) { Refuse(); }
std::function<std::shared_ptr<void>(int)> MakeSmHolder(int, int) { Refuse(); }
int64_t OpsBytes(int, const OpLimits&) { Refuse(); }

}  // namespace sluice::ops::cuda
