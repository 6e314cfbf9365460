// What does it cost that every rank notes every op?
//
// Three jobs of the same model and layout in one process take turns with prompts and answers of the same
// lengths: one that notes ops and two that do not, of which one is the measure of what mere chance does,
// where in memory a job lies for one. What counts is the processor time of the whole process, which others on
// the machine disturb less than the clock on the wall. Printed: the medians of the ratios to the first, and
// their quartiles; then the time of noting one op, from a loop of its own. Usage: trace_bench [MODEL [PROMPT
// [ANSWER [ROUNDS]]]]; without a model random:small.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/offline.h"

namespace sluice {
namespace {

constexpr int64_t kChunkRows = 512;

int64_t ProcessorNs() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

struct Setup {
  std::string model = "random:small";
  int64_t prompt = 1024;
  int64_t answer = 32;
  int rounds = 20;
};

class Side {
 public:
  Side(const Setup& setup, std::shared_ptr<const checkpoint::Checkpoint> checkpoint, size_t trace_events)
      : setup_(setup), vocabulary_(checkpoint->config().vocab_size) {
    engine::JobSettings settings;
    settings.model_path = setup.model;
    settings.grid = {2, 2, 1, 1};
    settings.cache_pages = 2 * (setup.prompt + setup.answer) / ops::kPageTokens + 16;
    settings.trace_events = trace_events;
    runner_ = std::make_unique<engine::OfflineRunner>(settings, kChunkRows, 1,
                                                      engine::StartThreadRanks(settings, checkpoint, {}));
  }
  // Of one request, whose prompt is in no cache.
  int64_t Run(int number) {
    engine::OfflineRequest request;
    request.max_tokens = setup_.answer;
    for (int64_t i = 0; i < setup_.prompt; ++i) {
      request.prompt.push_back(static_cast<int32_t>((i * 7919 + number * 31 + 5) % vocabulary_));
    }
    const int64_t begin = ProcessorNs();
    runner_->Run({request});
    return ProcessorNs() - begin;
  }
  uint64_t events() { return runner_->job().Events(0, 0, std::chrono::seconds(5))->next; }

 private:
  const Setup setup_;
  const int64_t vocabulary_;
  std::unique_ptr<engine::OfflineRunner> runner_;
};

double NsOfOneNote() {
  trace::Recorder recorder(0);
  const uint16_t name = recorder.NameId("Linear");
  constexpr int kNotes = 2'000'000;
  const int64_t begin = ProcessorNs();
  for (int i = 0; i < kNotes; ++i) recorder.NoteOp(name, NowNs(), 1);
  return static_cast<double>(ProcessorNs() - begin) / kNotes;
}

// Median and quartiles, sorted in place.
std::string Spread(std::vector<double>& ratios) {
  std::sort(ratios.begin(), ratios.end());
  const auto at = [&](double share) {
    return 100.0 * (ratios[static_cast<size_t>(share * static_cast<double>(ratios.size() - 1))] - 1.0);
  };
  return fmt::format("{:+.2f} % (quartiles {:+.2f} % and {:+.2f} %)", at(0.5), at(0.25), at(0.75));
}

void Measure(const Setup& setup) {
  const std::shared_ptr<const checkpoint::Checkpoint> checkpoint = checkpoint::Checkpoint::Open(setup.model);
  Side without(setup, checkpoint, 0);
  Side with(setup, checkpoint, trace::kDefaultEvents);
  Side control(setup, checkpoint, 0);
  const std::array sides{&without, &with, &control};
  for (Side* side : sides) side->Run(0);
  const uint64_t before = with.events();
  std::vector<double> noted, same;
  double total_ns = 0.0;
  for (int round = 1; round <= setup.rounds; ++round) {
    std::array<double, sides.size()> ns{};
    for (size_t turn = 0; turn < sides.size(); ++turn) {
      const size_t i = (static_cast<size_t>(round) + turn) % sides.size();
      ns[i] = static_cast<double>(sides[i]->Run(round));
    }
    noted.push_back(ns[1] / ns[0]);
    same.push_back(ns[2] / ns[0]);
    total_ns += ns[1];
  }
  fmt::print(
      "{}: prompt {}, answer {}, pp 2 x tp 2, {} rounds, processor time against a job that notes nothing\n",
      setup.model, setup.prompt, setup.answer, setup.rounds);
  fmt::print("a job that notes every op: {}\nanother that notes nothing: {}\n", Spread(noted), Spread(same));
  const double note_ns = NsOfOneNote();
  const double events = static_cast<double>(with.events() - before) * 4.0;  // of four ranks
  fmt::print("one note takes {:.1f} ns; {:.0f} events a request: {:.3f} % of its processor time\n", note_ns,
             events / setup.rounds, 100.0 * events * note_ns / total_ns);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  sluice::Setup setup;
  if (argc > 1) setup.model = argv[1];
  if (argc > 2) setup.prompt = std::atoll(argv[2]);
  if (argc > 3) setup.answer = std::atoll(argv[3]);
  if (argc > 4) setup.rounds = std::atoi(argv[4]);
  sluice::Measure(setup);
}
