#include "ops/cuda/packed_weights.h"

#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cuda/check.h"
#include "ops/cuda/find_nan.h"
#include "ops/cuda/random_fill.h"

namespace sluice::ops::cuda {
namespace {

std::vector<BF16> ToBF16(const RawMatrix& raw) {
  const Tensor view{const_cast<void*>(raw.data), raw.dtype, raw.rows, raw.cols, raw.cols};
  std::vector<BF16> values(static_cast<size_t>(raw.rows * raw.cols));
  for (int64_t row = 0; row < raw.rows; ++row) {
    for (int64_t col = 0; col < raw.cols; ++col) {
      values[static_cast<size_t>(row * raw.cols + col)] = sluice::ToBF16(LoadFloat(view, row, col));
    }
  }
  return values;
}

// Of `count` matrices one after the other in device memory.
void RefuseNaN(const std::byte* codes, int64_t count, int64_t rows, int64_t cols, Memory& memory) {
  constexpr uint64_t kNone = ~uint64_t{0};
  const Buffer first(sizeof(kNone), memory);
  memory.Copy(&kNone, first.data(), sizeof(kNone));
  Check(Enqueue(FindNaN{codes, count * rows * cols, reinterpret_cast<uint64_t*>(first.data())}, nullptr),
        "looking for NaN in a weight of {} x {}", rows, cols);
  Check(cudaStreamSynchronize(nullptr), "looking for NaN in a weight of {} x {}", rows, cols);
  uint64_t found = kNone;
  memory.Copy(first.data(), &found, sizeof(found));
  if (found == kNone) return;
  const auto at = static_cast<int64_t>(found) % (rows * cols);
  Fail(ErrorKind::kModelFiles,
       "an FP8 weight of {} x {} holds NaN at row {}, column {}; the file is damaged, fetch it again", rows,
       cols, at / cols, at % cols);
}

}  // namespace

PackedWeights::PackedWeights(std::span<const RawMatrix> raws, Memory& memory, Upload& upload)
    : dtype_(raws[0].dtype == DType::kF8E4M3 ? DType::kF8E4M3 : DType::kBF16) {
  const int64_t rows = raws[0].rows;
  const int64_t cols = raws[0].cols;
  if (cols * SizeOf(dtype_) % 16 != 0) {
    Fail(
        ErrorKind::kModelFiles,
        "a linear of this model has {} inputs of {}, and the GPU reads rows of whole 16 bytes: use --ops cpu",
        cols, NameOf(dtype_));
  }
  const bool fp8 = dtype_ == DType::kF8E4M3;
  const int64_t bytes = rows * cols * SizeOf(dtype_);
  const int64_t scale_bytes = CeilDiv(rows, kQuantBlock) * CeilDiv(cols, kQuantBlock) * SizeOf(DType::kF32);
  data_ = Buffer(std::ssize(raws) * bytes, memory);
  if (fp8) scales_ = Buffer(std::ssize(raws) * scale_bytes, memory);
  std::vector<Upload::Span> stored;
  for (int64_t i = 0; i < std::ssize(raws); ++i) {
    const RawMatrix& raw = raws[static_cast<size_t>(i)];
    SLUICE_CHECK(raw.rows == rows && raw.cols == cols, "weights of a group differ in shape");
    if ((raw.dtype == DType::kF8E4M3) != fp8) {
      Fail(ErrorKind::kModelFiles,
           "some experts of a layer are FP8 and others are not, which the GPU back end does not mix: use "
           "--ops cpu");
    }
    std::byte* to = data_.data() + i * bytes;
    if (raw.random) {
      RandomFill fill{*raw.random, to, cols, nullptr, CeilDiv(cols, kQuantBlock)};
      fill.matrix.dtype = dtype_;  // of an fp32 model these are the rounded bits too
      if (fp8) fill.scales = reinterpret_cast<float*>(scales_.data() + i * scale_bytes);
      Check(Enqueue(fill, nullptr), "making a random weight of {} x {}", rows, cols);
    } else if (fp8) {
      stored.push_back({raw.data, to, bytes});
      stored.push_back({raw.scales, scales_.data() + i * scale_bytes, scale_bytes});
    } else if (raw.dtype == DType::kBF16) {
      stored.push_back({raw.data, to, bytes});
    } else {
      memory.Copy(ToBF16(raw).data(), to, bytes);
    }
  }
  if (!stored.empty()) upload.Copy(stored);
  if (raws[0].random) {
    Check(cudaStreamSynchronize(nullptr), "making random weights of {} x {}", rows, cols);
  } else if (fp8) {
    RefuseNaN(data_.data(), std::ssize(raws), rows, cols, memory);
  }
}

}  // namespace sluice::ops::cuda
