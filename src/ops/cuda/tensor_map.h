#pragma once

#include <cuda.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace sluice::ops::cuda {

// A row-major tensor [rows, cols] in device memory that the copy engine reads in boxes of box_rows rows of
// 128 bytes, swizzled over 128 bytes. `data` and `stride` in bytes are multiples of 16. Throws
// Error(kInternal) with the driver's reason when it is refused.
CUtensorMap MapOf(const void* data, DType type, int64_t rows, int64_t cols, int64_t stride, int box_rows);

}  // namespace sluice::ops::cuda
