// Speed of the CPU ops beside the machine's peak and beside OpenBLAS, in one run.
//
// The machine may be shared: every figure is the best of several repeats, and what is compared is run in turn
// (ours, peer, ours, peer ...), so that a busy neighbour hits both.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/compute_pool.h"
#include "fma_peak.h"
#include "ops/cpu/cpu_ops.h"
#ifdef SLUICE_HAVE_OPENBLAS
#include <cblas.h>
#endif

namespace sluice::bench {
namespace {

using ops::Numerics;

constexpr double kSecondsPerFigure = 0.6;

// Best rates in operations per second of several alternatives that are run in turn.
std::vector<double> BestRates(double operations, const std::vector<std::function<void()>>& alternatives) {
  std::vector<double> best(alternatives.size(), 0.0);
  const int64_t end =
      NowNs() + static_cast<int64_t>(kSecondsPerFigure * 1e9 * static_cast<double>(best.size()));
  for (int repeat = 0; repeat < 4 || NowNs() < end; ++repeat) {
    for (size_t i = 0; i < best.size(); ++i) {
      const int64_t start = NowNs();
      alternatives[i]();
      best[i] = std::max(best[i], operations * 1e9 / static_cast<double>(NowNs() - start));
    }
  }
  return best;
}

class Bench {
 public:
  explicit Bench(int threads) : threads_(threads), pool_(threads - 1) {}

  void Run() {
    Peak();
    Gemm(2048, 2048);
    Gemm(7168, 2048);
    Fp8(7168, 2048);
    for (const int64_t rows : {1, 64}) Scoring(rows);
    for (const int64_t rows : {1, 16}) Attention(rows);
  }

 private:
  void Print(const std::string& name, double rate, const std::string& more = "") {
    peak_ = std::max(peak_, PeakNow());  // a neighbour may have slowed the first measurement
    fmt::print("{:<44} {:8.1f} GFLOP/s  {:5.1f} % of measured, {:5.1f} % of computed peak{}\n", name,
               rate / 1e9, 100 * rate / peak_, 100 * rate / computed_peak_, more);
    std::fflush(stdout);
  }

  double PeakNow() {
    constexpr int64_t kRounds = 2'000'000;
    const int64_t start = NowNs();
    std::vector<double> done(threads_);
    pool_.ParallelFor(threads_, [&](int64_t i) { done[i] = RunFmas(kRounds); });
    double operations = 0.0;
    for (const double count : done) operations += count;
    return operations * 1e9 / static_cast<double>(NowNs() - start);
  }

  void Peak() {
    const double clock = MeasureClock();
    const VectorUnit unit = WidestVectorUnit();
    computed_peak_ = threads_ * clock * unit.lanes * 2 * 2;
    for (int repeat = 0; repeat < 20; ++repeat) peak_ = std::max(peak_, PeakNow());
    fmt::print("{} threads, {}, {} fp32 lanes, clock {:.2f} GHz (measured)\n", threads_, unit.name,
               unit.lanes, clock / 1e9);
    fmt::print("peak computed (threads x clock x lanes x 2 FMA units x 2): {:.0f} GFLOP/s\n",
               computed_peak_ / 1e9);
    fmt::print("peak measured (a loop of independent FMAs on every thread): {:.0f} GFLOP/s\n\n", peak_ / 1e9);
  }

  std::vector<float> Random(int64_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = std::uniform_real_distribution<float>(-1.0F, 1.0F)(rng_);
    return values;
  }
  static Tensor View(std::vector<float>& values, int64_t rows) {
    const int64_t cols = static_cast<int64_t>(values.size()) / rows;
    return {values.data(), DType::kF32, rows, cols, cols};
  }

  void Gemm(int64_t n, int64_t k) {
    const auto ops = ops::MakeCpuOps(Numerics::kExact, pool_);
    std::vector<float> w = Random(n * k);
    const auto weight = ops->Pack({DType::kF32, n, k, w.data(), nullptr});
    for (const int64_t m : {1, 16, 64, 256, 1024}) {
      std::vector<float> x = Random(m * k);
      std::vector<float> y(m * n);
      std::vector<float> y_peer(m * n);
      std::vector<std::function<void()>> alternatives = {
          [&] { ops->Linear(View(x, m), *weight, View(y, m)); }};
#ifdef SLUICE_HAVE_OPENBLAS
      openblas_set_num_threads(threads_);
      alternatives.emplace_back([&] {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(m), static_cast<int>(n),
                    static_cast<int>(k), 1.0F, x.data(), static_cast<int>(k), w.data(), static_cast<int>(k),
                    0.0F, y_peer.data(), static_cast<int>(n));
      });
#endif
      const double operations = 2.0 * static_cast<double>(m * n * k);
      const std::vector<double> rates = BestRates(operations, alternatives);
      const std::string peer = rates.size() > 1 ? fmt::format("  OpenBLAS {:7.1f} GFLOP/s ({:4.1f} %)",
                                                              rates[1] / 1e9, 100 * rates[1] / peak_)
                                                : "  OpenBLAS: not installed, not measured";
      const std::string bandwidth =
          m == 1 ? fmt::format("  {:.1f} GB/s of weights", 2.0 * rates[0] / 1e9) : std::string();
      Print(fmt::format("GEMM fp32 {} x {}, M = {}", n, k, m), rates[0], peer + bandwidth);
    }
  }

  void Fp8(int64_t n, int64_t k) {
    const auto ops = ops::MakeCpuOps(Numerics::kFp8, pool_);
    std::vector<uint8_t> w(n * k);
    for (uint8_t& code : w) code = static_cast<uint8_t>(rng_() & 0xbf);
    const std::vector<float> scales(n * k / (ops::kQuantBlock * ops::kQuantBlock), 0.0078125F);
    const auto weight = ops->Pack({DType::kF8E4M3, n, k, w.data(), scales.data()});
    for (const int64_t m : {1, 16, 64, 256, 1024}) {
      OwnedTensor x(DType::kBF16, m, k);
      OwnedTensor y(DType::kBF16, m, n);
      for (int64_t i = 0; i < m * k; ++i)
        x.view().At<BF16>(0, i) = ToBF16(static_cast<float>(i % 29) - 14.0F);
      const double rate =
          BestRates(2.0 * static_cast<double>(m * n * k), {[&] { ops->Linear(x, *weight, y); }})[0];
      Print(fmt::format("GEMM fp8 {} x {}, M = {}", n, k, m), rate,
            m == 1 ? fmt::format("  {:.1f} GB/s of weights", rate / 2e9) : std::string());
    }
  }

  // One sequence whose pages lie in order, and `rows` rows at its end.
  void Scoring(int64_t rows) {
    constexpr int64_t kContext = 32768;
    const ops::IndexerShape shape{64, 128, 64, 2048, false};
    const auto ops = ops::MakeCpuOps(Numerics::kExact, pool_);
    std::vector<float> cache = Random(kContext * shape.dim);
    std::vector<float> queries = Random(rows * shape.heads * shape.dim);
    std::vector<float> gates = Random(rows * shape.heads);
    OwnedTensor selection(DType::kI32, rows, shape.top_k);
    const auto [places, table] = Sequence(rows, kContext);
    const ops::PageTable pages = table;
    const double operations = 2.0 * static_cast<double>(rows * kContext * shape.heads * shape.dim);
    const double rate =
        BestRates(operations, {[&] {
                    ops->SelectKeys(shape, View(queries, rows), View(gates, rows),
                                    {reinterpret_cast<std::byte*>(cache.data()), ops::CacheFormat::kF32},
                                    places, {&pages, 1}, selection);
                  }})[0];
    Print(fmt::format("index scoring + top-k, {} row(s), 32K keys", rows), rate);
  }

  void Attention(int64_t rows) {
    constexpr int64_t kContext = 8192;
    const ops::AttentionShape shape{128, 128, 64, 512, 128};
    const auto ops = ops::MakeCpuOps(Numerics::kExact, pool_);
    std::vector<float> cache = Random(kContext * shape.latent_width());
    std::vector<float> q = Random(rows * shape.heads * shape.latent_width());
    std::vector<float> o(rows * shape.heads * shape.latent);
    OwnedTensor selection(DType::kI32, rows, 2048);
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t j = 0; j < 2048; ++j)
        selection.view().At<int32_t>(t, j) = static_cast<int32_t>(4 * j + t % 4);
    }
    const auto [places, table] = Sequence(rows, kContext);
    const ops::PageTable pages = table;
    const double operations =
        2.0 * static_cast<double>(rows * 2048 * shape.heads * (shape.latent_width() + shape.latent));
    const double rate =
        BestRates(operations, {[&] {
                    ops->SparseAttention(shape, View(q, rows),
                                         {reinterpret_cast<std::byte*>(cache.data()), ops::CacheFormat::kF32},
                                         places, {&pages, 1}, selection, 0.1F, View(o, rows));
                  }})[0];
    Print(fmt::format("sparse attention, {} row(s), 2048 keys, 128 heads", rows), rate);
  }

  static std::pair<std::vector<ops::RowPlace>, std::vector<int32_t>> Sequence(int64_t rows, int64_t context) {
    std::vector<ops::RowPlace> places;
    for (int64_t t = 0; t < rows; ++t) places.push_back({0, static_cast<int32_t>(context - rows + t)});
    std::vector<int32_t> table;
    for (int64_t page = 0; page < context / ops::kPageTokens; ++page)
      table.push_back(static_cast<int32_t>(page));
    return {places, table};
  }

  int threads_;
  ComputePool pool_;
  std::mt19937_64 rng_{1};
  double peak_ = 0.0;
  double computed_peak_ = 0.0;
};

}  // namespace
}  // namespace sluice::bench

int main() {
#ifdef SLUICE_HAVE_OPENBLAS
  fmt::print("OpenBLAS: {}, kernels for {}\n", openblas_get_config(), openblas_get_corename());
#else
  fmt::print("OpenBLAS: not installed, not measured\n");
#endif
  sluice::bench::Bench(static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))).Run();
  return 0;
}
