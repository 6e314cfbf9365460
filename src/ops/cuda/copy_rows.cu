#include "ops/cuda/copy_rows.h"

namespace sluice::ops::cuda {
namespace {

constexpr int kThreads = 256;

// The widest type whose accesses are legal for every address that differs by any of `numbers`.
int WidestAccess(uint64_t numbers) {
  if (numbers % 16 == 0) return 16;
  return numbers % 4 == 0 ? 4 : 1;
}

// A block copies one tile of kThreads units of one row.
template <typename Unit, typename Source>
__global__ void __launch_bounds__(kThreads)
    CopyKernel(const Unit* x, int64_t x_stride, const Source* source, Source first, Unit* y, int64_t y_stride,
               int64_t units) {
  const int64_t unit = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (unit >= units) return;
  const int64_t row = blockIdx.x;
  const auto from = static_cast<int64_t>(source[row] - first);
  if (from >= 0) y[row * y_stride + unit] = x[from * x_stride + unit];
}

template <typename Unit, typename Source>
cudaError_t LaunchAs(const CopyRows& work, const Source* source, Source first, cudaStream_t stream) {
  constexpr auto kBytes = static_cast<int64_t>(sizeof(Unit));
  const int64_t units = work.row_bytes / kBytes;
  const dim3 grid(static_cast<unsigned>(work.rows), static_cast<unsigned>((units + kThreads - 1) / kThreads));
  CopyKernel<<<grid, kThreads, 0, stream>>>(static_cast<const Unit*>(work.x), work.x_stride / kBytes, source,
                                            first, static_cast<Unit*>(work.y), work.y_stride / kBytes, units);
  return cudaGetLastError();
}

template <typename Source>
cudaError_t Launch(const CopyRows& work, const Source* source, Source first, cudaStream_t stream) {
  if (work.rows == 0 || work.row_bytes == 0) return cudaSuccess;
  const auto address = [](const void* pointer) { return reinterpret_cast<uint64_t>(pointer); };
  switch (WidestAccess(address(work.x) | address(work.y) | static_cast<uint64_t>(work.x_stride) |
                       static_cast<uint64_t>(work.y_stride) | static_cast<uint64_t>(work.row_bytes))) {
    case 16:
      return LaunchAs<uint4>(work, source, first, stream);
    case 4:
      return LaunchAs<uint32_t>(work, source, first, stream);
    default:
      return LaunchAs<uint8_t>(work, source, first, stream);
  }
}

}  // namespace

cudaError_t Enqueue(const CopyRows& work, cudaStream_t stream) {
  return Launch(work, work.source, int64_t{0}, stream);
}

cudaError_t Enqueue(const TakeRows& work, cudaStream_t stream) {
  const CopyRows rows{work.rows, work.row_bytes, work.x, work.x_stride, nullptr, work.y, work.y_stride};
  return Launch(rows, work.source, int32_t{0}, stream);
}

cudaError_t Enqueue(const Embed& work, cudaStream_t stream) {
  CopyRows rows;
  rows.rows = work.rows;
  rows.row_bytes = 2 * work.width;
  rows.x = work.table;
  rows.x_stride = 2 * work.table_stride;
  rows.y = work.y;
  rows.y_stride = 2 * work.y_stride;
  return Launch(rows, work.ids, work.first_id, stream);
}

}  // namespace sluice::ops::cuda
