#pragma once

#include <memory>

#include "ops/ops.h"
#include "trace/recorder.h"

namespace sluice::ops {

// Hands every op on to `inner` and notes it in `recorder`, which outlives it: name, rows, begin and end of
// the call. Where ops are only enqueued that is the time of the host; what the device takes shows where the
// host waits for it, in Finish. Packing of weights, which is the loader threads' as well, is not noted. On
// the thread that the recorder belongs to.
std::unique_ptr<Ops> MakeTraced(std::unique_ptr<Ops> inner, trace::Recorder& recorder);

}  // namespace sluice::ops
