#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/error.h"
#include "tensor/dtype.h"
#include "tensor/memory.h"

namespace sluice {

// A view of rows x cols elements, row-major, `stride` elements from row to row. It owns nothing; heads and
// other inner dimensions are folded into cols and named by whoever uses them ([rows, heads * dim]).
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  template <typename T>
  T* Row(int64_t row) const {
    return static_cast<T*>(data) + row * stride;
  }
  template <typename T>
  T& At(int64_t row, int64_t col) const {
    return Row<T>(row)[col];
  }
  bool contiguous() const { return stride == cols || rows <= 1; }
  int64_t bytes() const { return rows * cols * SizeOf(dtype); }

  // The same memory, fewer rows or columns.
  Tensor RowRange(int64_t begin, int64_t count) const {
    SLUICE_CHECK(begin >= 0 && count >= 0 && begin + count <= rows);
    return {static_cast<std::byte*>(data) + begin * stride * SizeOf(dtype), dtype, count, cols, stride};
  }
  Tensor ColRange(int64_t begin, int64_t count) const {
    SLUICE_CHECK(begin >= 0 && count >= 0 && begin + count <= cols);
    return {static_cast<std::byte*>(data) + begin * SizeOf(dtype), dtype, rows, count, stride};
  }
};

// Element (row, col) as float whatever the dtype (F32, BF16, F8_E4M3); for tests and the reference ops.
float LoadFloat(const Tensor& tensor, int64_t row, int64_t col);
// Rounds to the tensor's dtype (F32 or BF16) and stores.
void StoreFloat(const Tensor& tensor, int64_t row, int64_t col, float value);

// Owning, zero-filled memory.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes, Memory& memory = HostMemory());
  std::byte* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }

 private:
  struct Release {
    Memory* memory;
    int64_t bytes;
    void operator()(std::byte* data) const { memory->Free(data, bytes); }
  };
  std::unique_ptr<std::byte, Release> data_{nullptr, Release{nullptr, 0}};
  int64_t bytes_ = 0;
};

// An owning tensor.
class OwnedTensor {
 public:
  OwnedTensor() = default;
  OwnedTensor(DType dtype, int64_t rows, int64_t cols, Memory& memory = HostMemory())
      : buffer_(rows * cols * SizeOf(dtype), memory), view_{buffer_.data(), dtype, rows, cols, cols} {}
  const Tensor& view() const { return view_; }
  operator const Tensor&() const { return view_; }  // NOLINT(google-explicit-constructor)

 private:
  Buffer buffer_;
  Tensor view_;
};

// A tensor, contiguous or a column range, where the host can read it: itself, or a copy made now.
class HostCopy {
 public:
  HostCopy(const Tensor& tensor, Memory& memory);
  const Tensor& view() const { return view_; }

 private:
  Buffer copy_;
  Tensor view_;
};

// Scratch memory of one pass. Allocation is a bump; everything is handed back at once by Reset. It grows as
// passes ask for more, unless Reserve has said how much there is.
class Arena {
 public:
  explicit Arena(Memory& memory = HostMemory()) : memory_(memory) {}
  Memory& memory() const { return memory_; }
  // What an allocation of `bytes` takes.
  static int64_t Taken(int64_t bytes);
  // Before anything is allocated: all that there will ever be, taken from the memory now. Throws as
  // Memory::Allocate.
  void Reserve(int64_t bytes);
  // 256-byte aligned, not cleared. Valid until Reset or until the enclosing Scope ends. Throws
  // Error(kInternal) beyond what was reserved.
  std::byte* Allocate(int64_t bytes);
  Tensor New(DType dtype, int64_t rows, int64_t cols) {
    return {Allocate(rows * cols * SizeOf(dtype)), dtype, rows, cols, cols};
  }
  void Reset();
  // Largest number of bytes ever in use at once.
  int64_t peak_bytes() const { return peak_; }

  // Hands back what was allocated during its life.
  class Scope {
   public:
    explicit Scope(Arena& arena)
        : arena_(arena), block_(arena.block_), used_(arena.used_), total_(arena.total_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
      arena_.total_ = total_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t block_;
    int64_t used_, total_;
  };

 private:
  Memory& memory_;
  std::vector<Buffer> blocks_;
  size_t block_ = 0;   // block in use
  int64_t used_ = 0;   // bytes used of it
  int64_t total_ = 0;  // bytes in use over all blocks
  int64_t peak_ = 0;
  bool reserved_ = false;  // no block is added any more
};

}  // namespace sluice
