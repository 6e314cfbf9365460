#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>

#include "fault_job.h"
#include "matrix_cases.h"

// Every fault of a plan, in a prefill, in a decode, while idle, at start-up and on the frame of a step, on
// the first, the middle and the last stage: the verdict, drawn from the ranks' records alone, names the right
// rank within five seconds of the limit in force; clients are answered; nothing is left behind.
//
// ./check runs one stage for every fault and time; SLUICE_FAULT_MATRIX=all runs all, SLUICE_FAULT_MATRIX=SEED
// repeats a sample, SLUICE_FAULT_CASE=NAME one case.
namespace sluice::layouts {
namespace {

constexpr int kAtOnce = 8;
constexpr Duration kSoft = std::chrono::seconds(2);
constexpr Duration kHard = std::chrono::seconds(6);
constexpr Duration kHardAtStartUp = std::chrono::seconds(3);
constexpr Duration kWithin = std::chrono::seconds(5);
constexpr Duration kAnswer = std::chrono::seconds(40);  // for a machine with eight jobs on two cores

// What went wrong in one case, a sentence a line; empty: nothing.
class CaseRun {
 public:
  explicit CaseRun(const MatrixCase& one) : case_(one) {}

  std::string Run() {
    const bool starts = case_.when != When::kStartUp || Survives();
    // A second ready frame may find the job begun.
    const bool may_start = case_.action == comm::FaultAction::kDuplicate;
    const auto settings = FaultSettings(case_.Plan(), kSoft, starts ? kHard : kHardAtStartUp);
    const Deadline begin = Clock::now();
    try {
      FaultJob job(settings);
      if (!starts && !may_start) Note("the job became ready");
      Work(job);
    } catch (const Error& error) {
      if (starts) Note(fmt::format("the job did not start: {}", error.what()));
      NamesTheRank(error.what());
      if (std::string(error.what()).find("is left") != std::string::npos) Note(error.what());
      if (Clock::now() > begin + kHardAtStartUp + kWithin + kAnswer) Note("it was named too late");
    }
    return problems_;
  }

 private:
  void Note(const std::string& problem) { problems_ += fmt::format("  {}: {}\n", case_.Name(), problem); }

  void NamesTheRank(const std::string& sentence) {
    const std::string name = fmt::format("rank {} (stage {}, lane 0)", case_.stage, case_.stage);
    if (!sentence.starts_with(name)) Note(fmt::format("{} is not named by: {}", name, sentence));
  }

  void Work(FaultJob& job) {
    const bool idle = case_.when == When::kIdle;
    Client client;
    client.Ask(job.engine());
    if (idle) {
      Expect(client, true);
      Client second;
      if (case_.Expected() == Outcome::kSurvives) second.Ask(job.engine());
      Watch(job);
      if (case_.Expected() != Outcome::kSurvives) second.Ask(job.engine());
      Expect(second, Survives());
    } else {
      Watch(job);
      Expect(client, Survives());
    }
    if (Survives() && !job.engine().Report().verdict.empty())
      Note("a verdict is left: " + job.engine().Report().verdict);
    const std::string left = job.EndAndLookForLeftovers();
    if (!left.empty()) Note(left);
  }

  bool Survives() const {
    return case_.Expected() == Outcome::kSurvives || case_.Expected() == Outcome::kRecovers;
  }

  // Waits for what has to come of the fault.
  void Watch(FaultJob& job) {
    if (case_.Expected() == Outcome::kSurvives) return;
    // The job has to come to the fault first, which is not the watchdog's affair.
    const engine::StallReport report = job.WaitForVerdict(Clock::now() + kSoft + kWithin + kAnswer);
    if (report.verdict.empty()) return Note("nobody was named");
    NamesTheRank(report.verdict);
    if (report.named_rank != case_.stage) Note(fmt::format("the report names rank {}", report.named_rank));
    const double late = LatenessOf(report);
    if (late > std::chrono::duration<double>(kSoft + kWithin).count())
      Note(fmt::format("it was named {:.1f} s after it had gone still", late));
    if (case_.Expected() == Outcome::kEnds && !report.ended)
      Note("the job did not end at once: " + report.verdict);
    if (case_.Expected() == Outcome::kRecovers) {
      if (report.ended) Note("the job ended: " + report.verdict);
      if (!job.WaitForRecovery(Clock::now() + kAnswer)) Note("the stall did not pass");
    } else {
      if (!job.WaitForEnd(Clock::now() + kHard + kWithin)) Note("the job did not end");
      NamesTheRank(job.engine().Report().verdict);
    }
  }

  // How long the oldest sign of the fault is ago: the longest wait for another rank, or the longest silence.
  static double LatenessOf(const engine::StallReport& report) {
    double longest = 0;
    for (const engine::RankReport& rank : report.ranks) {
      longest = std::max(longest, rank.heard_age_seconds);
      if (rank.peer >= 0) longest = std::max(longest, rank.waited_seconds);
    }
    return longest;
  }

  void Expect(Client& client, bool right) {
    if (!client.WaitUntil(Clock::now() + kAnswer)) return Note("a client was not answered");
    // A job that ends for what happened at start-up may have answered before.
    const bool before = case_.when == When::kStartUp && client.error().empty();
    if (!right && !before) return NamesTheRank(client.error());
    if (!client.error().empty()) return Note("a client got an error: " + client.error());
    if (client.tokens() != RightAnswer()) Note("a client got another answer");
  }

  const MatrixCase case_;
  std::string problems_;
};

std::vector<MatrixCase> ChosenCases() {
  const char* matrix = std::getenv("SLUICE_FAULT_MATRIX");
  if (const char* name = std::getenv("SLUICE_FAULT_CASE"); name != nullptr) {
    std::vector<MatrixCase> chosen;
    for (const MatrixCase& one : WholeMatrix()) {
      if (one.Name() == name) chosen.push_back(one);
    }
    return chosen;
  }
  if (matrix != nullptr && std::string(matrix) == "all") return WholeMatrix();
  const uint64_t seed = matrix != nullptr ? std::strtoull(matrix, nullptr, 10) : std::random_device()();
  fmt::print("a sample of the fault matrix; SLUICE_FAULT_MATRIX={} repeats it\n", seed);
  return SampledMatrix(seed);
}

TEST(FaultMatrix, TheRightRankIsNamedClientsAreAnsweredNothingIsLeft) {
  const std::vector<MatrixCase> cases = ChosenCases();
  ASSERT_FALSE(cases.empty());
  RightAnswer();  // before the jobs share it
  const std::vector<std::string> before = SharedLeavings();
  std::atomic<size_t> next = 0;
  std::vector<std::string> problems(cases.size());
  std::vector<std::thread> workers;
  for (int worker = 0; worker < kAtOnce; ++worker) {
    workers.emplace_back([&] {
      for (size_t i = next++; i < cases.size(); i = next++) problems[i] = CaseRun(cases[i]).Run();
    });
  }
  for (std::thread& worker : workers) worker.join();
  std::string all;
  for (const std::string& problem : problems) all += problem;
  EXPECT_EQ(all, "") << all;
  EXPECT_EQ(SharedLeavings(), before) << "shared memory or sockets are left";
  fmt::print("{} cases\n", cases.size());
}

}  // namespace
}  // namespace sluice::layouts
