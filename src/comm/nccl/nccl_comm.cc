#include "comm/nccl/nccl_comm.h"

#include <cuda.h>
#include <sys/prctl.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace sluice::comm {
namespace {

constexpr std::chrono::microseconds kPollEvery{10};
constexpr std::chrono::seconds kFinalizeLimit{2};

std::string VersionText(int code) {
  return fmt::format("{}.{}.{}", code / 10000, code / 100 % 100, code % 100);
}

}  // namespace

void CheckCuda(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  Fail(ErrorKind::kInternal, "CUDA refused {}: {} ({})", call, cudaGetErrorString(error),
       cudaGetErrorName(error));
}

namespace {

// Whether this process has something on `device` already.
bool IsInUse(int device) {
  using State = CUresult (*)(CUdevice, unsigned int*, int*);
  static const State state = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &entry, 12000,
                                                               cudaEnableDefault, &found);
    return error == cudaSuccess ? reinterpret_cast<State>(entry) : nullptr;
  }();
  unsigned int flags = 0;
  int active = 1;
  return state == nullptr || state(device, &flags, &active) != CUDA_SUCCESS || active != 0;
}

}  // namespace

// Used on the way out of failures as well: a device that cannot be made current fails the next call.
DeviceScope::DeviceScope(int device) {
  cudaGetDevice(&before_);
  cudaSetDevice(device);
}
// To make a device current is to start CUDA on it, half a GiB of its memory; and a thread that has chosen
// none is on device 0, which may be another rank's.
DeviceScope::~DeviceScope() {
  if (IsInUse(before_)) cudaSetDevice(before_);
}

DeviceStream::DeviceStream() {
  CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}
DeviceStream::~DeviceStream() { cudaStreamDestroy(stream_); }

DeviceEvent::DeviceEvent() {
  CheckCuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}
DeviceEvent::~DeviceEvent() { cudaEventDestroy(event_); }

NcclMemory::NcclMemory(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const ncclResult_t result = ncclMemAlloc(&data_, bytes);
  if (result != ncclSuccess) {
    Fail(ErrorKind::kMemory, "NCCL could not allocate {} bytes of device memory: {}", bytes,
         ncclGetErrorString(result));
  }
}
NcclMemory::~NcclMemory() {
  if (data_ != nullptr) ncclMemFree(data_);
}

ShortNaps::ShortNaps() : before_(prctl(PR_GET_TIMERSLACK)) { prctl(PR_SET_TIMERSLACK, 1000); }
ShortNaps::~ShortNaps() { prctl(PR_SET_TIMERSLACK, before_); }

ncclUniqueId NewNcclId() {
  ncclUniqueId id;
  const ncclResult_t result = ncclGetUniqueId(&id);
  if (result != ncclSuccess) {
    Fail(ErrorKind::kNetwork,
         "NCCL found no network interface to meet other ranks on: {}; NCCL_SOCKET_IFNAME names one",
         ncclGetErrorString(result));
  }
  return id;
}

void CheckNcclConfig(const NcclConfig& config, int rank) {
  int found = 0;
  if (cudaGetDeviceCount(&found) != cudaSuccess) found = 0;
  if (config.device < 0 || config.device >= found) {
    Fail(ErrorKind::kUsage,
         "rank {} is to use CUDA device {}, and {} devices are visible here; give each rank of a host a "
         "device "
         "of its own below {}",
         rank, config.device, found, found);
  }
  if (config.max_channels < 0) {
    Fail(ErrorKind::kUsage,
         "rank {} may use {} NCCL channels; give 0 for NCCL's own choice or a positive number", rank,
         config.max_channels);
  }
  CheckNcclVersion();
#if NCCL_VERSION_CODE < NCCL_VERSION(2, 28, 0)
  if (config.zero_cta) {
    Fail(ErrorKind::kUsage,
         "copy-engine collectives (CTA policy zero) need NCCL 2.28, and this program was built with {}",
         VersionText(NCCL_VERSION_CODE));
  }
#endif
}

void CheckNcclVersion() {
  int version = 0;
  // Options grow with the minor number; an older library would not know some of ours.
  if (ncclGetVersion(&version) != ncclSuccess || version / 100 < NCCL_VERSION_CODE / 100) {
    Fail(ErrorKind::kUsage,
         "this program was built with NCCL {} and found {} at run time; install {}.{} or newer",
         VersionText(NCCL_VERSION_CODE), VersionText(version), NCCL_MAJOR, NCCL_MINOR);
  }
}

NcclComm::NcclComm(const ncclUniqueId& id, std::vector<int> members, int place, const NcclConfig& config)
    : members_(std::move(members)), device_(config.device) {
  const DeviceScope scope(device_);
  ncclConfig_t options = NCCL_CONFIG_INITIALIZER;
  options.blocking = 0;
  if (config.max_channels > 0) {
    options.minCTAs = 1;
    options.maxCTAs = config.max_channels;
  }
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
  if (config.zero_cta) options.CTAPolicy = NCCL_CTA_POLICY_ZERO;
#endif
  const ncclResult_t result =
      ncclCommInitRankConfig(&comm_, static_cast<int>(members_.size()), id, place, &options);
  if (result != ncclSuccess && result != ncclInProgress) {
    Fail(ErrorKind::kInternal, "NCCL refused to begin a communicator of {} ranks: {}", members_.size(),
         ncclGetErrorString(result));
  }
}

NcclComm::~NcclComm() {
  if (!broken_ && !stop_ && comm_ != nullptr) {
    const DeviceScope scope(device_);
    const Deadline deadline = Clock::now() + kFinalizeLimit;
    const auto late = [&] { return Clock::now() >= deadline; };
    if (Settle(ncclCommFinalize(comm_), late) == ncclSuccess) {
      ncclCommDestroy(comm_);
      return;
    }
  }
  Abort();
}

ncclResult_t NcclComm::AwaitReady(const GiveUp& give_up) {
  std::lock_guard lock(mutex_);
  return Settle(ncclInProgress, give_up);
}

ncclResult_t NcclComm::Run(const std::function<ncclResult_t(ncclComm_t)>& enqueue, const GiveUp& give_up) {
  std::lock_guard lock(mutex_);
  if (comm_ == nullptr || stop_) return ncclInProgress;
  const DeviceScope scope(device_);
  ncclResult_t result = enqueue(comm_);
  // Some calls say success while NCCL still works on them (ncclCommWindowRegister of 2.28): its state
  // decides.
  if (result == ncclSuccess) result = ncclInProgress;
  return Settle(result, give_up);
}

ncclResult_t NcclComm::Settle(ncclResult_t result, const GiveUp& give_up) {
  const ShortNaps naps;
  while (result == ncclInProgress && !stop_ && comm_ != nullptr && !give_up()) {
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &result);
    if (asked != ncclSuccess) result = asked;
    if (result == ncclInProgress) std::this_thread::sleep_for(kPollEvery);
  }
  if (result != ncclSuccess) broken_ = true;
  return result;
}

ncclResult_t NcclComm::AsyncError() {
  std::lock_guard lock(mutex_);
  if (comm_ == nullptr) return ncclSuccess;
  ncclResult_t result = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm_, &result);
  if (asked != ncclSuccess) result = asked;
  if (result == ncclInProgress) return ncclSuccess;
  if (result != ncclSuccess) broken_ = true;
  return result;
}

std::string NcclComm::Words(ncclResult_t result) {
  std::lock_guard lock(mutex_);
  std::string words = ncclGetErrorString(result);
  const char* last = comm_ == nullptr ? nullptr : ncclGetLastError(comm_);
  if (last != nullptr && *last != '\0') words += fmt::format(" ({})", last);
  while (!words.empty() && words.back() == '\n') words.pop_back();
  return words;
}

void NcclComm::Abort() {
  stop_ = true;
  std::lock_guard lock(mutex_);
  if (comm_ == nullptr) return;
  const DeviceScope scope(device_);
  ncclCommAbort(comm_);
  comm_ = nullptr;
}

}  // namespace sluice::comm
