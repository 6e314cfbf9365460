#include "base/error.h"
#include "comm/nccl/nccl_plane.h"

namespace sluice::comm {
namespace {

[[noreturn]] void Refuse() {
  Fail(ErrorKind::kUsage,
       "this build of sluice has no NCCL data plane: build with `cmake --preset cuda` where a CUDA toolkit "
       "and "
       "NCCL are installed");
}

}  // namespace

void CheckNccl() { Refuse(); }
std::unique_ptr<Communicator> MakeNcclPlane(int, int, KeyValueStore&, const std::string&, int, Memory&,
                                            Duration) {
  Refuse();
}

}  // namespace sluice::comm
