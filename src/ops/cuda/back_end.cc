#include "ops/cuda/back_end.h"

#include <algorithm>
#include <thread>

#include "base/checked.h"
#include "ops/cuda/add.h"
#include "ops/cuda/check.h"
#include "ops/cuda/copy_rows.h"
#include "ops/cuda/device.h"
#include "ops/cuda/reserved.h"
#include "ops/cuda/rms_norm.h"
#include "ops/cuda/sparse_attention.h"
#include "ops/cuda/swiglu.h"

namespace sluice::ops::cuda {
namespace {

// More do not load faster (docs/performance.md).
constexpr int kMostUploadThreads = 4;

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

// x [T, inputs] in a form that a weight of `reads` multiplies, y [T, outputs].
void CheckOperands(const Activation& x, Forms reads, int64_t outputs, int64_t inputs, const Tensor& y) {
  const bool codes = reads.quantized && x.forms().quantized;
  const Tensor& form = codes ? x.quantized : x.values;
  SLUICE_CHECK(form.dtype == (codes ? DType::kU8 : DType::kBF16), "activations of {}", NameOf(form.dtype));
  SLUICE_CHECK(
      form.cols == (codes ? QuantizedRowBytes(inputs) : inputs) && form.rows == y.rows && y.cols == outputs,
      "x is {} x {}, W {} x {}, y {} x {}", form.rows, form.cols, outputs, inputs, y.rows, y.cols);
}

// Where a kernel that makes rows puts those forms that y has.
template <typename Work>
void FormsOf(const Activation& y, int64_t width, Work& work) {
  if (y.forms().values) {
    SLUICE_CHECK(y.values.dtype == DType::kBF16 && y.values.cols == width);
    work.y = y.values.data;
    work.y_stride = y.values.stride;
  }
  if (y.forms().quantized) {
    SLUICE_CHECK(y.quantized.cols == QuantizedRowBytes(width));
    work.quantized = InOneRow(y.quantized.data, y.quantized.stride, width);
  }
}
// What tells one op from another in a graph.
const void* AnyOf(const Activation& y) { return y.forms().values ? y.values.data : y.quantized.data; }

}  // namespace

CudaOps::CudaOps(int device)
    : memory_(ChosenMemory(device)),
      sms_(SmsOf(device)),
      staging_(memory_, stream_),
      counters_(kCounters * kCounterNumbers * SizeOf(DType::kI32), memory_),
      scoring_counter_(SizeOf(DType::kI32), memory_),
      published_(PublishedBytes(sms_), memory_),
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
  CheckScores();
}

// A graph's piece is launched as a whole, when it ends.
std::unique_ptr<StreamMark> CudaOps::Mark() { return graphs_.Active() ? nullptr : stream_.Record(); }

void CudaOps::FinishUpTo(const StreamMark* mark) {
  if (mark == nullptr) return Finish();
  stream_.FinishUpTo(*mark);
  CheckScores();
}

void CudaOps::CheckScores() const {
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
  upload_.reset();  // weights are there before steps are
  const Reserved bytes = ReservedFor(limits, sms_);
  Workspace(bytes.workspace);
  ReserveAnswers(bytes.answers);
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

int64_t CudaOps::WorkspaceRoom() const { return reserved_ ? workspace_.bytes() : kScoreBytes; }

// One stream: a counter is free again when the launch before it on the stream is through.
TileCounter CudaOps::NextCounter() {
  return reinterpret_cast<TileCounter>(counters_.data()) + next_counter_++ % kCounters * kCounterNumbers;
}

Upload& CudaOps::upload() {
  if (upload_ == nullptr) {
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    upload_ = std::make_unique<Upload>(memory_, std::clamp(cores, 1, kMostUploadThreads));
  }
  return *upload_;
}

std::unique_ptr<Weight> CudaOps::Pack(const RawMatrix& raw) {
  return std::make_unique<PackedWeight>(raw, memory_, upload());
}

std::unique_ptr<WeightGroup> CudaOps::PackGroup(std::span<const RawMatrix> raws) {
  return std::make_unique<PackedGroup>(raws, memory_, upload());
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

QuantizedRows CudaOps::Quantized(const Activation& x, int64_t inputs) {
  if (x.forms().quantized) return InOneRow(x.quantized.data, x.quantized.stride, inputs);
  const Tensor& values = x.values;
  const QuantizedBytes bytes = BytesOfQuantized(values.rows, inputs);
  std::byte* space = Workspace(bytes.total());
  const QuantizedRows quantized{space + bytes.scales, inputs, reinterpret_cast<float*>(space),
                                CeilDiv(inputs, kQuantBlock)};
  Run(QuantizeRows{values.rows, inputs, values.data, values.stride, quantized}, quantized.codes,
      "quantising {} rows of {}", values.rows, inputs);
  return quantized;
}

void CudaOps::Multiply(const Activation& x, int64_t inputs, const PackedWeights& weights,
                       int64_t weight_count, const Tensor* groups, const Tensor& y) {
  if (y.rows == 0) return;
  Gemm gemm;
  gemm.type = weights.dtype();
  gemm.rows = y.rows;
  gemm.inputs = inputs;
  gemm.outputs = y.cols;
  gemm.weights = weight_count;
  gemm.w = weights.data();
  gemm.y = y.data;
  gemm.y_type = y.dtype;
  gemm.y_stride = y.stride;
  if (gemm.type == DType::kF8E4M3) {
    const QuantizedRows quantized = Quantized(x, inputs);
    gemm.x = quantized.codes;
    gemm.x_stride = quantized.codes_stride;
    gemm.x_scales = quantized.scales;
    gemm.x_scales_stride = quantized.scales_stride;
    gemm.w_scales = weights.scales();
  } else {
    gemm.x = x.values.data;
    gemm.x_stride = x.values.stride;
  }
  if (groups != nullptr) {
    gemm.groups = groups->Row<const RowGroup>(0);
    gemm.group_count = static_cast<int32_t>(groups->rows);
  }
  RunTiles(gemm, y.data, "Linear [{}, {}] x {} of [{}, {}]", y.rows, inputs, weight_count, y.cols, inputs);
}

void CudaOps::Linear(const Activation& x, const Weight& w, const Tensor& y) {
  CheckOperands(x, w.reads(), w.rows(), w.cols(), y);
  Multiply(x, w.cols(), dynamic_cast<const PackedWeight&>(w).packed, 1, nullptr, y);
}

void CudaOps::GroupedLinear(const Activation& x, const Tensor& groups, const WeightGroup& weights,
                            const Tensor& y) {
  static_assert(sizeof(RowGroup) == 3 * sizeof(int32_t));
  SLUICE_CHECK(groups.cols == 3 && groups.contiguous() && groups.dtype == DType::kI32);
  CheckOperands(x, weights.reads(), weights.rows(), weights.cols(), y);
  if (groups.rows == 0) return;
  Multiply(x, weights.cols(), dynamic_cast<const PackedGroup&>(weights).packed, weights.count(), &groups, y);
}

void CudaOps::Norm(const Tensor* delta, const Tensor& x, const Tensor& w, float eps, const Activation& y) {
  SLUICE_CHECK(x.dtype == DType::kBF16 && w.dtype == DType::kF32);
  cuda::RmsNorm work;
  work.rows = x.rows;
  work.width = x.cols;
  work.x = x.data;
  work.x_stride = x.stride;
  if (delta != nullptr) {
    SLUICE_CHECK(delta->dtype == DType::kBF16 && delta->cols == x.cols && delta->rows == x.rows);
    work.delta = delta->data;
    work.delta_stride = delta->stride;
  }
  work.weight = w.Row<const float>(0);
  work.eps = eps;
  FormsOf(y, x.cols, work);
  Run(work, AnyOf(y), "{} of {} rows of {}", delta == nullptr ? "RmsNorm" : "AddRmsNorm", x.rows, x.cols);
}

void CudaOps::RmsNorm(const Tensor& x, const Tensor& w, float eps, const Activation& y) {
  Norm(nullptr, x, w, eps, y);
}

void CudaOps::AddRmsNorm(const Tensor& delta, const Tensor& x, const Tensor& w, float eps,
                         const Activation& y) {
  Norm(&delta, x, w, eps, y);
}

void CudaOps::SwiGlu(const Tensor& gate, const Tensor& up, const Activation& y) {
  SLUICE_CHECK(gate.dtype == DType::kBF16 && up.dtype == DType::kBF16);
  cuda::SwiGlu work;
  work.rows = gate.rows;
  work.width = gate.cols;
  work.gate = gate.data;
  work.gate_stride = gate.stride;
  work.up = up.data;
  work.up_stride = up.stride;
  FormsOf(y, gate.cols, work);
  Run(work, AnyOf(y), "SwiGlu of {} rows of {}", gate.rows, gate.cols);
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

std::unique_ptr<Ops> MakeCudaOps(int device) { return std::make_unique<CudaOps>(device); }

int64_t OpsBytes(int device, const OpLimits& limits) {
  CheckDevice(device);
  return ReservedBytes(limits, SmsOf(device));
}

}  // namespace sluice::ops::cuda
