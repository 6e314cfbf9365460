// Speed of the CPU ops beside the machine's peak and beside OpenBLAS, in one run.
//
//   ops_bench [threads] [passes]      default: all cores, 12 passes
//
// The machine may be shared, so every figure is the best of `passes` short measurements that are spread over
// the whole run: each pass measures the peak and every figure, ours and the peer's one after the other.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/compute_pool.h"
#include "bench/fma_peak.h"
#include "ops/cpu/cpu_ops.h"
#ifdef SLUICE_HAVE_OPENBLAS
#include <cblas.h>
#endif

namespace sluice::bench {
namespace {

using ops::Numerics;

constexpr int64_t kNsPerMeasurement = 60'000'000;  // and one call at least

int64_t ThreadCpuNs() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

// One line of the table: what is timed, beside which peer, and the best so far.
struct Figure {
  std::string name;
  double operations = 0.0;    // floating point operations of one call
  double weight_bytes = 0.0;  // bytes of weights one call must read, where memory is the limit
  std::function<void()> ours = nullptr;
  std::function<void()> peer = nullptr;
  double best = 0.0;  // operations per second
  double best_peer = 0.0;
};

class Bench {
 public:
  explicit Bench(int threads)
      : threads_(threads),
        pool_(threads - 1),
        exact_(ops::MakeCpuOps(Numerics::kExact, pool_)),
        fp8_(ops::MakeCpuOps(Numerics::kFp8, pool_)) {
#ifdef SLUICE_HAVE_OPENBLAS
    openblas_set_num_threads(threads);
#endif
    Gemm(2048, 2048);
    Gemm(7168, 2048);
    Fp8(7168, 2048);
    for (const int64_t rows : {1, 64}) Scoring(rows);
    for (const int64_t rows : {1, 16}) Attention(rows);
  }

  void Run(int passes) {
    for (int pass = 0; pass < passes; ++pass) {
      clock_ = std::max(clock_, MeasureClock());
      peak_ = std::max(peak_, MeasurePeak());
      for (Figure& figure : figures_) {
        figure.best = std::max(figure.best, BestRate(figure.operations, figure.ours));
        if (figure.peer)
          figure.best_peer = std::max(figure.best_peer, BestRate(figure.operations, figure.peer));
      }
    }
    Print();
  }

 private:
  int64_t Time() const { return threads_ == 1 ? ThreadCpuNs() : NowNs(); }

  double BestRate(double operations, const std::function<void()>& call) const {
    double best = 0.0;
    const int64_t end = Time() + kNsPerMeasurement;
    do {
      const int64_t start = Time();
      call();
      best = std::max(best, operations * 1e9 / static_cast<double>(Time() - start));
    } while (Time() < end);
    return best;
  }

  double MeasurePeak() {
    constexpr int64_t kRounds = 500'000;
    std::vector<double> done(threads_);
    const auto run = [&] { pool_.ParallelFor(threads_, [&](int64_t i) { done[i] = RunFmas(kRounds); }); };
    run();
    double operations = 0.0;
    for (const double count : done) operations += count;
    return BestRate(operations, run);
  }

  void Print() const {
    const VectorUnit unit = WidestVectorUnit();
    const double computed = threads_ * clock_ * unit.lanes * 2 * 2;
    fmt::print("{} thread(s), {}: {} fp32 lanes, clock {:.2f} GHz (measured), timed by {}\n", threads_,
               unit.name, unit.lanes, clock_ / 1e9, threads_ == 1 ? "CPU time" : "wall time");
    fmt::print("peak computed (threads x clock x lanes x 2 FMA units x 2 operations): {:.0f} GFLOP/s\n",
               computed / 1e9);
    fmt::print("peak measured (independent FMAs on every thread): {:.0f} GFLOP/s\n\n", peak_ / 1e9);
    fmt::print("{:<40} {:>9} {:>12} {:>12} {:>10}  {}\n", "op", "GFLOP/s", "% measured", "% computed",
               "weights", "OpenBLAS");
    for (const Figure& figure : figures_) {
      const std::string bandwidth =
          figure.weight_bytes > 0
              ? fmt::format("{:.1f} GB/s", figure.weight_bytes * figure.best / figure.operations / 1e9)
              : std::string();
      const std::string peer = figure.best_peer > 0
                                   ? fmt::format("{:.1f} GFLOP/s ({:.1f} % measured)", figure.best_peer / 1e9,
                                                 100 * figure.best_peer / peak_)
                                   : std::string();
      fmt::print("{:<40} {:>9.1f} {:>12.1f} {:>12.1f} {:>10}  {}\n", figure.name, figure.best / 1e9,
                 100 * figure.best / peak_, 100 * figure.best / computed, bandwidth, peer);
    }
  }

  // Memory that lives as long as the bench.
  Tensor Random(DType dtype, int64_t rows, int64_t cols) {
    tensors_.push_back(std::make_unique<OwnedTensor>(dtype, rows, cols));
    const Tensor tensor = *tensors_.back();
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        if (dtype == DType::kF8E4M3) {
          tensor.At<uint8_t>(i, j) = static_cast<uint8_t>(rng_() & 0xbf);
        } else {
          StoreFloat(tensor, i, j, static_cast<float>(rng_() >> 40) * 0x1p-23F - 1.0F);
        }
      }
    }
    return tensor;
  }
  Tensor Zeros(DType dtype, int64_t rows, int64_t cols) {
    tensors_.push_back(std::make_unique<OwnedTensor>(dtype, rows, cols));
    return *tensors_.back();
  }

  void Gemm(int64_t n, int64_t k) {
    const Tensor w = Random(DType::kF32, n, k);
    weights_.push_back(exact_->Pack({DType::kF32, n, k, w.data, nullptr}));
    const ops::Weight& weight = *weights_.back();
    for (const int64_t m : {1, 16, 64, 256, 1024}) {
      const Tensor x = Random(DType::kF32, m, k);
      const Tensor y = Zeros(DType::kF32, m, n);
      Figure figure{fmt::format("linear fp32, N {} K {}, M {}", n, k, m),
                    2.0 * static_cast<double>(m * n * k)};
      if (m == 1) figure.weight_bytes = 4.0 * static_cast<double>(n * k);
      figure.ours = [this, x, y, &weight] { exact_->Linear(x, weight, y); };
#ifdef SLUICE_HAVE_OPENBLAS
      const Tensor y_peer = Zeros(DType::kF32, m, n);
      figure.peer = [x, w, y_peer] {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(x.rows),
                    static_cast<int>(w.rows), static_cast<int>(w.cols), 1.0F, x.Row<float>(0),
                    static_cast<int>(x.cols), w.Row<float>(0), static_cast<int>(w.cols), 0.0F,
                    y_peer.Row<float>(0), static_cast<int>(w.rows));
      };
#endif
      figures_.push_back(figure);
    }
  }

  void Fp8(int64_t n, int64_t k) {
    const Tensor w = Random(DType::kF8E4M3, n, k);
    const std::vector<float> scales(n * k / (ops::kQuantBlock * ops::kQuantBlock), 0x1p-7F);
    weights_.push_back(fp8_->Pack({DType::kF8E4M3, n, k, w.data, scales.data()}));
    const ops::Weight& weight = *weights_.back();
    for (const int64_t m : {1, 16, 64, 256, 1024}) {
      const Tensor x = Random(DType::kBF16, m, k);
      const Tensor y = Zeros(DType::kBF16, m, n);
      Figure figure{fmt::format("linear fp8, N {} K {}, M {}", n, k, m),
                    2.0 * static_cast<double>(m * n * k)};
      if (m == 1) figure.weight_bytes = static_cast<double>(n * k);
      figure.ours = [this, x, y, &weight] { fp8_->Linear(x, weight, y); };
      figures_.push_back(figure);
    }
  }

  // One sequence whose pages lie in order, and `rows` rows at its end.
  struct Sequence {
    Sequence(int64_t rows, int64_t context) {
      for (int64_t t = 0; t < rows; ++t) places.push_back({0, static_cast<int32_t>(context - rows + t)});
      for (int64_t page = 0; page < context / ops::kPageTokens; ++page)
        table.push_back(static_cast<int32_t>(page));
      pages = table;
    }
    std::vector<ops::RowPlace> places;
    std::vector<int32_t> table;
    ops::PageTable pages;
  };

  void Scoring(int64_t rows) {
    constexpr int64_t kContext = 32768;
    const ops::IndexerShape shape{64, 128, 64, 2048, false};
    const Tensor cache = Random(DType::kF32, kContext, shape.dim);
    const Tensor queries = Random(DType::kF32, rows, shape.heads * shape.dim);
    const Tensor gates = Random(DType::kF32, rows, shape.heads);
    const Tensor selection = Zeros(DType::kI32, rows, shape.top_k);
    const auto sequence = std::make_shared<Sequence>(rows, kContext);
    Figure figure{fmt::format("index scores + top-k, {} rows x 32K keys", rows),
                  2.0 * static_cast<double>(rows * kContext * shape.heads * shape.dim)};
    figure.ours = [=, this] {
      exact_->SelectKeys(shape, queries, gates, {static_cast<std::byte*>(cache.data), ops::CacheFormat::kF32},
                         sequence->places, {&sequence->pages, 1}, selection);
    };
    figures_.push_back(figure);
  }

  void Attention(int64_t rows) {
    constexpr int64_t kContext = 8192;
    constexpr int64_t kKeys = 2048;
    const ops::AttentionShape shape{128, 128, 64, 512, 128};
    const Tensor cache = Random(DType::kF32, kContext, shape.latent_width());
    const Tensor q = Random(DType::kF32, rows, shape.heads * shape.latent_width());
    const Tensor o = Zeros(DType::kF32, rows, shape.heads * shape.latent);
    const Tensor selection = Zeros(DType::kI32, rows, kKeys);
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t j = 0; j < kKeys; ++j) selection.At<int32_t>(t, j) = static_cast<int32_t>(3 * j + t % 3);
    }
    const auto sequence = std::make_shared<Sequence>(rows, kContext);
    Figure figure{
        fmt::format("sparse attention, {} rows x 2048 keys", rows),
        2.0 * static_cast<double>(rows * kKeys * shape.heads * (shape.latent_width() + shape.latent))};
    figure.ours = [=, this] {
      exact_->SparseAttention(shape, q, {static_cast<std::byte*>(cache.data), ops::CacheFormat::kF32},
                              sequence->places, {&sequence->pages, 1}, selection, 0.1F, o);
    };
    figures_.push_back(figure);
  }

  int threads_;
  ComputePool pool_;
  std::unique_ptr<ops::Ops> exact_, fp8_;
  std::mt19937_64 rng_{1};
  std::vector<std::unique_ptr<OwnedTensor>> tensors_;
  std::vector<std::unique_ptr<ops::Weight>> weights_;
  std::vector<Figure> figures_;
  double peak_ = 0.0;
  double clock_ = 0.0;
};

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
#ifdef SLUICE_HAVE_OPENBLAS
  fmt::print("{}, kernels for {}\n", openblas_get_config(), openblas_get_corename());
#else
  fmt::print("OpenBLAS: not installed, not measured\n");
#endif
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int threads = argc > 1 ? std::atoi(argv[1]) : cores;
  const int passes = argc > 2 ? std::atoi(argv[2]) : 12;
  if (threads < 1 || passes < 1) {
    fmt::print(stderr, "usage: ops_bench [threads >= 1] [passes >= 1]\n");
    return 2;
  }
  sluice::bench::Bench(threads).Run(passes);
  return 0;
}
