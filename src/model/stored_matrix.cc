#include "model/stored_matrix.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"

namespace sluice::model {
namespace {

using checkpoint::kScaleBlock;

}  // namespace

ops::RawMatrix StoredRows(const checkpoint::Checkpoint& checkpoint, const std::string& name, int64_t begin,
                          int64_t end) {
  const checkpoint::StoredTensor stored = checkpoint.Get(name);
  if (stored.random) return ops::RawOf(stored.random->RowRange(begin, end - begin));
  const int64_t cols = stored.shape[1];
  ops::RawMatrix raw{stored.dtype, end - begin, cols, stored.data + begin * cols * SizeOf(stored.dtype),
                     nullptr};
  if (stored.dtype == DType::kF8E4M3) {
    SLUICE_CHECK(begin % kScaleBlock == 0, "FP8 rows are cut at scale blocks");
    const auto scales = checkpoint.Get(checkpoint::ScaleName(name));
    raw.scales = reinterpret_cast<const float*>(scales.data) + begin / kScaleBlock * scales.shape[1];
  }
  return raw;
}

ops::RawMatrix StoredMatrix(const checkpoint::Checkpoint& checkpoint, const std::string& name) {
  return StoredRows(checkpoint, name, 0, checkpoint.Get(name).shape[0]);
}

StoredColumns::StoredColumns(const checkpoint::Checkpoint& checkpoint, const std::string& name, int64_t begin,
                             int64_t end) {
  const checkpoint::StoredTensor stored = checkpoint.Get(name);
  if (stored.random) {
    raw_ = ops::RawOf(stored.random->ColRange(begin, end - begin));
    return;
  }
  const int64_t rows = stored.shape[0];
  const int64_t size = SizeOf(stored.dtype);
  const int64_t width = (end - begin) * size;
  bytes_ = Buffer(rows * width);
  for (int64_t row = 0; row < rows; ++row) {
    const auto* from = stored.data + (row * stored.shape[1] + begin) * size;
    std::copy(from, from + width, bytes_.data() + row * width);
  }
  raw_ = {stored.dtype, rows, end - begin, bytes_.data(), nullptr};
  if (stored.dtype != DType::kF8E4M3) return;
  SLUICE_CHECK(begin % kScaleBlock == 0, "FP8 columns are cut at scale blocks");
  const auto scales = checkpoint.Get(checkpoint::ScaleName(name));
  const auto* all = reinterpret_cast<const float*>(scales.data);
  for (int64_t row = 0; row < scales.shape[0]; ++row) {
    const auto* from = all + row * scales.shape[1];
    scales_.insert(scales_.end(), from + begin / kScaleBlock, from + CeilDiv(end, kScaleBlock));
  }
  raw_.scales = scales_.data();
}

}  // namespace sluice::model
