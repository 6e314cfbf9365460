#include <dlfcn.h>
#include <nccl.h>

#include "base/error.h"

// NCCL's functions as this program calls them. The library is looked for when the first is called: a program
// that moves nothing between GPUs starts without it.
namespace {

constexpr const char* kLibrary = "libnccl.so.2";

template <typename Function>
Function* Find(const char* name) {
  static void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  void* const function = library == nullptr ? nullptr : dlsym(library, name);
  if (function == nullptr) {
    const char* words = dlerror();
    sluice::Fail(
        sluice::ErrorKind::kUsage,
        "NCCL is not found here ({}): install NCCL {}.{} or newer where the system's loader looks for "
        "{}, or use --data-plane host",
        words == nullptr ? kLibrary : words, NCCL_MAJOR, NCCL_MINOR, kLibrary);
  }
  return reinterpret_cast<Function*>(function);
}

}  // namespace

#define SLUICE_NCCL(result, name, parameters, arguments)          \
  result name parameters {                                        \
    static auto* const function = Find<result parameters>(#name); \
    return function arguments;                                    \
  }

SLUICE_NCCL(ncclResult_t, ncclGetVersion, (int* version), (version))
SLUICE_NCCL(ncclResult_t, ncclGetUniqueId, (ncclUniqueId * id), (id))
SLUICE_NCCL(ncclResult_t, ncclCommInitRankConfig,
            (ncclComm_t * comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config),
            (comm, ranks, id, rank, config))
SLUICE_NCCL(ncclResult_t, ncclCommFinalize, (ncclComm_t comm), (comm))
SLUICE_NCCL(ncclResult_t, ncclCommDestroy, (ncclComm_t comm), (comm))
SLUICE_NCCL(ncclResult_t, ncclCommAbort, (ncclComm_t comm), (comm))
SLUICE_NCCL(ncclResult_t, ncclCommGetAsyncError, (ncclComm_t comm, ncclResult_t* error), (comm, error))
SLUICE_NCCL(const char*, ncclGetErrorString, (ncclResult_t result), (result))
SLUICE_NCCL(const char*, ncclGetLastError, (ncclComm_t comm), (comm))
SLUICE_NCCL(ncclResult_t, ncclGroupStart, (), ())
SLUICE_NCCL(ncclResult_t, ncclGroupEnd, (), ())
SLUICE_NCCL(ncclResult_t, ncclSend,
            (const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
             cudaStream_t stream),
            (from, count, type, peer, comm, stream))
SLUICE_NCCL(ncclResult_t, ncclRecv,
            (void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream),
            (to, count, type, peer, comm, stream))
SLUICE_NCCL(ncclResult_t, ncclAllGather,
            (const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
             cudaStream_t stream),
            (from, to, count, type, comm, stream))
SLUICE_NCCL(ncclResult_t, ncclMemAlloc, (void** memory, size_t bytes), (memory, bytes))
SLUICE_NCCL(ncclResult_t, ncclMemFree, (void* memory), (memory))
SLUICE_NCCL(ncclResult_t, ncclCommWindowRegister,
            (ncclComm_t comm, void* memory, size_t bytes, ncclWindow_t* window, int flags),
            (comm, memory, bytes, window, flags))
SLUICE_NCCL(ncclResult_t, ncclCommWindowDeregister, (ncclComm_t comm, ncclWindow_t window), (comm, window))
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
SLUICE_NCCL(ncclResult_t, ncclAlltoAll,
            (const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
             cudaStream_t stream),
            (from, to, count, type, comm, stream))
#endif

#undef SLUICE_NCCL
