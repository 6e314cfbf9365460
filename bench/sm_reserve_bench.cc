#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "gpu_event.h"
#include "gpu_main.h"
#include "gpu_operands.h"
#include "gpu_report.h"
#include "median.h"
#include "ops/cuda/check.h"
#include "ops/cuda/device.h"
#include "ops/cuda/held_sm.h"
#include "ops/cuda/index_scores.h"
#include "ops/cuda/stream.h"
#include "tensor/tensor.h"
#include "trace/strip.h"

// What a receive that waits costs the scoring kernel: one that holds an SM, and one whose stream waits for a
// word; on all SMs and on all but one; with tiles from a counter, as they are, and with fixed tiles, block b
// of n taking b, b + n, ...: there a block whose SM is held begins when another has ended, and has as much to
// do.
//   sm_reserve_bench [DIRECTORY]    writes sm-reserve-before.svg and sm-reserve-after.svg there
// Device time between events around a launch; medians of kRounds, all cases taking turns.
namespace sluice {
namespace {

using ops::cuda::Check;

constexpr int64_t kKeys = 65536;
constexpr int64_t kHeads = 64;
constexpr int kRounds = 9;

int64_t NsBetween(const bench::Event& begin, const bench::Event& end) {
  return static_cast<int64_t>(end.MsSince(begin) * 1e6);
}

// The last `rows` rows of a prompt of kKeys tokens.
class Scoring {
 public:
  explicit Scoring(int64_t rows) : rows_(rows), operands_(kHeads, 1, rows, kKeys) {}

  void Enqueue(bool fixed_tiles, int sms, cudaStream_t stream) {
    ops::cuda::IndexScores work = operands_.Launch();
    work.fixed_tiles = fixed_tiles;
    Check(ops::cuda::Enqueue(work, counter_.as<int32_t>(), sms, stream), "scores of {} rows", rows_);
  }
  // Of the last row.
  std::vector<float> Scores() const {
    std::vector<float> scores(kKeys);
    ops::cuda::DeviceMemory(0).Copy(operands_.scores().as<float>((rows_ - 1) * kKeys), scores.data(),
                                    kKeys * SizeOf(DType::kF32));
    return scores;
  }

 private:
  int64_t rows_;
  bench::ScoreOperands operands_;
  bench::DeviceArray counter_{ops::cuda::kCounterNumbers * sizeof(int32_t)};
};

// What waits meanwhile.
enum class Beside { kNothing, kHeldSm, kStream };

struct Measured {
  trace::Span scoring;
  trace::Span receive;  // empty when there was none
  double Ms() const { return static_cast<double>(scoring.end_ns - scoring.begin_ns) / 1e6; }
};

class Card {
 public:
  Card() : before_(int64_t{256} << 20, ops::cuda::DeviceMemory(0)) {
    Check(cudaDeviceGetAttribute(&sms_, cudaDevAttrMultiProcessorCount, 0), "counting SMs");
    origin_.Record(stream_);
  }
  int sms() const { return sms_; }

  Measured Measure(Scoring& scoring, bool fixed_tiles, int sms, Beside beside) {
    const cudaStream_t receiving = beside == Beside::kHeldSm ? held_.stream() : waiting_;
    ops::cuda::Gate gate;
    if (beside != Beside::kNothing) receive_begin_.Record(receiving);
    if (beside == Beside::kStream) waiting_.WaitFor(gate);
    if (beside == Beside::kHeldSm) {
      held_.Begin();
      while (!held_.Occupied()) std::this_thread::yield();
    }
    // Gives the device something to do until everything behind it is enqueued.
    Check(cudaMemsetAsync(before_.data(), 0, static_cast<size_t>(before_.bytes()), stream_), "clearing");
    begin_.Record(stream_);
    scoring.Enqueue(fixed_tiles, sms, stream_);
    end_.Record(stream_);
    Check(cudaStreamSynchronize(stream_), "scoring");
    Measured measured{{NsBetween(origin_, begin_), NsBetween(origin_, end_), trace::SpanKind::kCompute}, {}};
    if (beside != Beside::kNothing) {
      if (beside == Beside::kHeldSm) held_.End();
      gate.Open();
      receive_end_.Record(receiving);
      Check(cudaStreamSynchronize(receiving), "a receive");
      measured.receive = {NsBetween(origin_, receive_begin_), NsBetween(origin_, receive_end_),
                          trace::SpanKind::kHopWait};
    }
    return measured;
  }

 private:
  int sms_ = 0;
  const ops::cuda::Stream stream_;
  ops::cuda::Stream waiting_;
  ops::cuda::HeldSm held_;
  Buffer before_;
  bench::Event origin_, begin_, end_, receive_begin_, receive_end_;
};

void PrintTable(Card& card, Scoring& scoring, int64_t rows) {
  struct Case {
    bool fixed_tiles;
    int sms;
    Beside beside;
    auto operator<=>(const Case&) const = default;
  };
  std::map<Case, std::vector<double>> times;
  for (int round = -1; round < kRounds; ++round) {
    for (const bool fixed : {false, true}) {
      for (const int sms : {card.sms(), card.sms() - 1}) {
        for (const Beside beside : {Beside::kNothing, Beside::kHeldSm, Beside::kStream}) {
          std::this_thread::sleep_for(std::chrono::milliseconds(15));
          const double ms = card.Measure(scoring, fixed, sms, beside).Ms();
          if (round >= 0) times[{fixed, sms, beside}].push_back(ms);
        }
      }
    }
  }
  const auto median = [&](const Case& at) { return bench::Median(times.at(at)); };
  for (const bool fixed : {false, true}) {
    for (const int sms : {card.sms(), card.sms() - 1}) {
      const double alone = median({fixed, sms, Beside::kNothing});
      const double held = median({fixed, sms, Beside::kHeldSm});
      const double stream = median({fixed, sms, Beside::kStream});
      fmt::print("| {} | {} | {} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {:.3f} |\n", rows,
                 fixed ? "fixed" : "counter", sms, alone, held, held / alone, stream, stream / alone);
    }
  }
}

// The kernel on all SMs once beside the receive and once alone, with either kind of tiles.
void Draw(Card& card, Scoring& scoring, int64_t rows, Beside receive, const std::string& path) {
  const bool holds = receive == Beside::kHeldSm;
  std::vector<trace::Lane> lanes = {{holds ? "receive, 1 SM" : "receive, no SM", 0, {}},
                                    {fmt::format("counter, {} SMs", card.sms()), 0, {}},
                                    {fmt::format("fixed, {} SMs", card.sms()), 0, {}}};
  for (const bool fixed : {false, true}) {
    for (const Beside beside : {receive, Beside::kNothing}) {
      Measured measured = card.Measure(scoring, fixed, card.sms(), beside);
      measured.scoring.step = beside == receive ? 4 : 3;
      lanes[fixed ? 2 : 1].spans.push_back(measured.scoring);
      if (beside == receive) lanes[0].spans.push_back(measured.receive);
    }
  }
  std::ofstream(path) << trace::RenderSvg(
      lanes,
      fmt::format("Scores of {} rows x {} keys on {} SMs, beside a receive {}, and alone", rows, kKeys,
                  card.sms(), holds ? "that holds one" : "whose stream waits"),
      trace::SvgDetail::kDurations);
}

void Run(const std::string& directory) {
  ops::cuda::CheckDevice(0);
  Check(cudaSetDevice(0), "choosing GPU 0");
  Card card;
  fmt::print("{}, {} SMs, {} keys, {} heads\n\n", bench::GpuName(), card.sms(), kKeys, kHeads);
  fmt::print(
      "| rows | tiles | SMs | alone, ms | beside a held SM, ms | / alone | beside a stream, ms | / alone "
      "|\n");
  fmt::print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
  for (const int64_t rows : {int64_t{1024}, int64_t{4096}}) {
    Scoring scoring(rows);
    PrintTable(card, scoring, rows);
    card.Measure(scoring, false, card.sms(), Beside::kNothing);
    const std::vector<float> drawn = scoring.Scores();
    card.Measure(scoring, true, card.sms() - 1, Beside::kHeldSm);
    const std::vector<float> fixed = scoring.Scores();
    SLUICE_CHECK(std::memcmp(drawn.data(), fixed.data(), drawn.size() * sizeof(float)) == 0,
                 "fixed tiles change scores");
    if (rows != 1024 || directory.empty()) continue;
    Draw(card, scoring, rows, Beside::kHeldSm, directory + "/sm-reserve-before.svg");
    Draw(card, scoring, rows, Beside::kStream, directory + "/sm-reserve-after.svg");
  }
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  return sluice::bench::Main("sm_reserve_bench", [&] { sluice::Run(argc > 1 ? argv[1] : ""); });
}
