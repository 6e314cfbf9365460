#include "ops/cuda/back_end.h"

#include "base/checked.h"
#include "ops/cuda/add.h"
#include "ops/cuda/check.h"
#include "ops/cuda/copy_rows.h"
#include "ops/cuda/device.h"
#include "ops/cuda/quantize_rows.h"
#include "ops/cuda/reserved.h"
#include "ops/cuda/rms_norm.h"
#include "ops/cuda/swiglu.h"

namespace sluice::ops::cuda {
namespace {

int SmsOf(int device) {
  int sms = 0;
  Check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device), "counting SMs");
  return sms;
}

// The memory of a device that is this thread's from now on.
Memory& ChosenMemory(int device) {
  Memory& memory = DeviceMemory(device);
  Check(cudaSetDevice(device), "choosing GPU {}", device);
  return memory;
}

}  // namespace

CudaOps::CudaOps(int device)
    : memory_(ChosenMemory(device)),
      sms_(SmsOf(device)),
      staging_(memory_, stream_),
      counters_(kCounters * kCounterNumbers * SizeOf(DType::kI32), memory_),
      scoring_counter_(SizeOf(DType::kI32), memory_),
      scoring_launches_(sizeof(LaunchRecord), memory_) {
  constexpr int32_t kZero = 0;
  memory_.Copy(&kZero, scoring_counter_.data(), sizeof(kZero));
  const LaunchRecord none;
  memory_.Copy(&none, scoring_launches_.data(), sizeof(none));
  void* flag = nullptr;
  Check(cudaHostAlloc(&flag, 2 * sizeof(int32_t), cudaHostAllocMapped), "pinning a flag");
  not_a_number_ = static_cast<int32_t*>(flag);
  not_a_number_[0] = -1;
}

CudaOps::~CudaOps() {
  cudaStreamSynchronize(stream_);
  cudaFreeHost(not_a_number_);
}

void CudaOps::Finish() {
  if (graphs_.Active()) graphs_.Cut();
  if (graphs_.Records()) return;  // nothing was computed
  stream_.Finish();
  if (not_a_number_[0] >= 0) {
    Fail(ErrorKind::kInternal, "the index score of row {} and position {} is not a number", not_a_number_[0],
         not_a_number_[1]);
  }
}

LaunchRecord CudaOps::ScoringLaunches() {
  Finish();
  LaunchRecord record;
  memory_.Copy(scoring_launches_.data(), &record, sizeof(record));
  return record;
}

void CudaOps::Reserve(const OpLimits& limits) {
  const Reserved bytes = ReservedFor(limits, sms_);
  Workspace(bytes.workspace);
  staging_.Fix(bytes.staging);
  if (bytes.graph_lists > 0) pass_lists_.Fix(bytes.graph_lists);
  most_positions_ = limits.positions;
  reserved_ = true;
}

void CudaOps::RecordGraph(int64_t key) {
  SLUICE_CHECK(reserved_, "a graph before anything was reserved");
  graphs_.Record(key);
  pass_lists_.Begin();
  brought_.clear();
}

void CudaOps::LaunchGraph(int64_t key) {
  graphs_.Launch(key);
  pass_lists_.Begin();
  brought_.clear();
}

void CudaOps::EndGraph() {
  graphs_.End();
  brought_.clear();
}

std::byte* CudaOps::Workspace(int64_t bytes) {
  if (bytes > workspace_.bytes()) {
    if (reserved_) {
      Fail(ErrorKind::kInternal, "an op asks for {} bytes of workspace, and {} were reserved", bytes,
           workspace_.bytes());
    }
    stream_.Finish();
    workspace_ = Buffer();
    workspace_ = Buffer(bytes, memory_);
  }
  return workspace_.data();
}

// One stream: a counter is free again when the launch before it on the stream is through.
TileCounter CudaOps::NextCounter() {
  return reinterpret_cast<TileCounter>(counters_.data()) + next_counter_++ % kCounters * kCounterNumbers;
}

std::unique_ptr<Weight> CudaOps::Pack(const RawMatrix& raw) {
  return std::make_unique<PackedWeight>(raw, memory_);
}

std::unique_ptr<WeightGroup> CudaOps::PackGroup(std::span<const RawMatrix> raws) {
  return std::make_unique<PackedGroup>(raws, memory_);
}

void CudaOps::Embed(const Tensor& table, int64_t first_id, std::span<const int32_t> ids, const Tensor& y) {
  SLUICE_CHECK(table.dtype == DType::kBF16 && y.dtype == DType::kBF16);
  ReserveLists(static_cast<int64_t>(ids.size_bytes()), 1);
  cuda::Embed work{std::ssize(ids), y.cols, table.data, table.stride, static_cast<int32_t>(first_id)};
  work.ids = Put(ids);
  work.y = y.data;
  work.y_stride = y.stride;
  Run(work, y.data, "Embed of {} rows of {}", work.rows, work.width);
}

void CudaOps::Multiply(const Tensor& x, const PackedWeights& weights, int64_t weight_count,
                       const Tensor* groups, const Tensor& y) {
  SLUICE_CHECK(x.dtype == DType::kBF16, "activations of {}", NameOf(x.dtype));
  if (x.rows == 0) return;
  Gemm gemm;
  gemm.type = weights.dtype();
  gemm.rows = x.rows;
  gemm.inputs = x.cols;
  gemm.outputs = y.cols;
  gemm.weights = weight_count;
  gemm.w = weights.data();
  gemm.y = y.data;
  gemm.y_type = y.dtype;
  gemm.y_stride = y.stride;
  if (gemm.type == DType::kF8E4M3) {
    const QuantizedBytes bytes = BytesOfQuantized(x.rows, x.cols);
    std::byte* space = Workspace(bytes.total());
    const QuantizedRows quantized{space + bytes.scales, x.cols, reinterpret_cast<float*>(space),
                                  CeilDiv(x.cols, kQuantBlock)};
    Run(cuda::QuantizeRows{x.rows, x.cols, x.data, x.stride, quantized}, quantized.codes,
        "quantising {} rows of {}", x.rows, x.cols);
    gemm.x = quantized.codes;
    gemm.x_stride = x.cols;
    gemm.x_scales = quantized.scales;
    gemm.w_scales = weights.scales();
  } else {
    gemm.x = x.data;
    gemm.x_stride = x.stride;
  }
  if (groups != nullptr) {
    gemm.groups = groups->Row<const RowGroup>(0);
    gemm.group_count = static_cast<int32_t>(groups->rows);
  }
  RunTiles(gemm, y.data, "Linear [{}, {}] x {} of [{}, {}]", x.rows, x.cols, weight_count, y.cols, x.cols);
}

void CudaOps::Linear(const Tensor& x, const Weight& w, const Tensor& y) {
  SLUICE_CHECK(x.cols == w.cols() && y.cols == w.rows() && x.rows == y.rows,
               "x is {} x {}, W {} x {}, y {} x {}", x.rows, x.cols, w.rows(), w.cols(), y.rows, y.cols);
  Multiply(x, dynamic_cast<const PackedWeight&>(w).packed, 1, nullptr, y);
}

void CudaOps::GroupedLinear(const Tensor& x, const Tensor& groups, const WeightGroup& weights,
                            const Tensor& y) {
  static_assert(sizeof(RowGroup) == 3 * sizeof(int32_t));
  SLUICE_CHECK(groups.cols == 3 && groups.contiguous() && groups.dtype == DType::kI32);
  SLUICE_CHECK(x.cols == weights.cols() && y.cols == weights.rows() && x.rows == y.rows);
  if (groups.rows == 0) return;
  Multiply(x, dynamic_cast<const PackedGroup&>(weights).packed, weights.count(), &groups, y);
}

void CudaOps::RmsNorm(const Tensor& x, const Tensor& w, float eps, const Tensor& y) {
  SLUICE_CHECK(x.dtype == DType::kBF16 && y.dtype == DType::kBF16 && w.dtype == DType::kF32);
  cuda::RmsNorm work;
  work.rows = x.rows;
  work.width = x.cols;
  work.x = x.data;
  work.x_stride = x.stride;
  work.weight = w.Row<const float>(0);
  work.eps = eps;
  work.y = y.data;
  work.y_stride = y.stride;
  Run(work, y.data, "RmsNorm of {} rows of {}", x.rows, x.cols);
}

void CudaOps::SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& y) {
  SLUICE_CHECK(gate.dtype == DType::kBF16 && up.dtype == DType::kBF16 && y.dtype == DType::kBF16);
  cuda::SwiGlu work{y.rows, y.cols, gate.data, gate.stride, up.data, up.stride, y.data, y.stride, {}};
  Run(work, y.data, "SwiGlu of {} rows of {}", y.rows, y.cols);
}

void CudaOps::Add(const Tensor& x, const Tensor& y) {
  SLUICE_CHECK(x.dtype == DType::kBF16 && y.dtype == DType::kBF16);
  Run(cuda::Add{x.rows, x.cols, x.data, x.stride, y.data, y.stride}, y.data, "Add of {} rows of {}", x.rows,
      x.cols);
}

void CudaOps::CopyRows(const Tensor& x, std::span<const int64_t> source, const Tensor& y) {
  const int64_t element = SizeOf(x.dtype);
  ReserveLists(static_cast<int64_t>(source.size_bytes()), 1);
  cuda::CopyRows work{std::ssize(source), y.cols * element, x.data, x.stride * element};
  work.source = Put(source);
  work.y = y.data;
  work.y_stride = y.stride * element;
  Run(work, y.data, "CopyRows of {} rows of {}", work.rows, y.cols);
}

void CudaOps::TakeRows(const Tensor& x, const Tensor& rows, const Tensor& y) {
  SLUICE_CHECK(rows.dtype == DType::kI32 && rows.cols == y.rows);
  const int64_t element = SizeOf(x.dtype);
  const cuda::TakeRows work{y.rows, y.cols * element,  x.data, x.stride * element, rows.Row<const int32_t>(0),
                            y.data, y.stride * element};
  Run(work, y.data, "TakeRows of {} rows of {}", work.rows, y.cols);
}

void CudaOps::QuantizeRows(const Tensor& x, const Tensor& rows) {
  SLUICE_CHECK(rows.cols == QuantizedRowBytes(x.cols));
  cuda::QuantizeRows work{x.rows, x.cols, x.data, x.stride, OnTheWire(rows.data, rows.stride, x.cols)};
  Run(work, rows.data, "QuantizeRows of {} rows of {}", x.rows, x.cols);
}

void CudaOps::DequantizeRows(const Tensor& rows, const Tensor& y) {
  SLUICE_CHECK(rows.cols == QuantizedRowBytes(y.cols));
  cuda::DequantizeRows work{y.rows, y.cols, OnTheWire(rows.data, rows.stride, y.cols), y.data, y.stride};
  Run(work, y.data, "DequantizeRows of {} rows of {}", y.rows, y.cols);
}

std::unique_ptr<Ops> MakeCudaOps(int device) { return std::make_unique<CudaOps>(device); }

int64_t OpsBytes(int device, const OpLimits& limits) {
  CheckDevice(device);
  return ReservedBytes(limits, SmsOf(device));
}

}  // namespace sluice::ops::cuda
