#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/tensor_map.h"
#include "ops/ops.h"
#include "tensor/tensor.h"

// Matrices as a checkpoint stores them, whole and in parts, as a back end packs them. All throw
// Error(kModelFiles) as Checkpoint::Get does.
namespace sluice::model {

// Rows [begin, end). FP8 rows must start on a scale block.
ops::RawMatrix StoredRows(const checkpoint::Checkpoint& checkpoint, const std::string& name, int64_t begin,
                          int64_t end);

ops::RawMatrix StoredMatrix(const checkpoint::Checkpoint& checkpoint, const std::string& name);

// Columns [begin, end), copied out. FP8 columns must start on a scale block.
class StoredColumns {
 public:
  StoredColumns(const checkpoint::Checkpoint& checkpoint, const std::string& name, int64_t begin,
                int64_t end);
  const ops::RawMatrix& raw() const { return raw_; }

 private:
  Buffer bytes_;
  std::vector<float> scales_;
  ops::RawMatrix raw_;
};

// Dequantised where there are scales.
inline float ValueAt(const ops::RawMatrix& raw, int64_t row, int64_t col) {
  const Tensor view{const_cast<void*>(raw.data), raw.dtype, raw.rows, raw.cols, raw.cols};
  const float value = LoadFloat(view, row, col);
  if (raw.scales == nullptr) return value;
  const int64_t blocks_across = (raw.cols + checkpoint::kScaleBlock - 1) / checkpoint::kScaleBlock;
  return value * raw.scales[row / checkpoint::kScaleBlock * blocks_across + col / checkpoint::kScaleBlock];
}

}  // namespace sluice::model
