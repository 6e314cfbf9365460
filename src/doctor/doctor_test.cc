#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "doctor/gpu.h"
#include "doctor/host.h"
#include "doctor/network.h"
#include "doctor/time_probe.h"

namespace sluice::doctor {
namespace {

using std::chrono::seconds;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;

const Finding& Of(const Findings& findings, const std::string& what) {
  for (const Finding& finding : findings) {
    if (finding.what == what) return finding;
  }
  ADD_FAILURE() << "nothing is said of " << what;
  static const Finding nothing;
  return nothing;
}

// Whatever is not ok says what to do, and nothing else does.
void ExpectRemedies(const Findings& findings) {
  for (const Finding& finding : findings) {
    EXPECT_EQ(finding.verdict == Verdict::kOk, finding.remedy.empty()) << Line(finding);
    EXPECT_NE(finding.found, "");
  }
}

TEST(FindingTest, IsOneLine) {
  EXPECT_EQ(Line(Ok("clock", "kept")), "ok   clock: kept");
  EXPECT_EQ(Line(Warn("clock", "lost", "find it")), "warn clock: lost -> find it");
  EXPECT_EQ(Line(Bad("clock", "broken", "buy one")), "bad  clock: broken -> buy one");
}

TEST(HostTest, LimitsAreJudgedByWhatJobsNeed) {
  const struct {
    uint64_t files;
    Verdict verdict;
  } cases[] = {{64, Verdict::kBad},
               {511, Verdict::kBad},
               {512, Verdict::kWarn},
               {1024, Verdict::kWarn},
               {4096, Verdict::kOk}};
  for (const auto& [files, verdict] : cases) {
    HostLimits limits;
    limits.open_files = files;
    const Findings findings = JudgeLimits(limits, false);
    EXPECT_EQ(Of(findings, "open files").verdict, verdict) << files;
    ExpectRemedies(findings);
  }
  HostLimits none;
  for (const Finding& finding : JudgeLimits(none, true))
    EXPECT_EQ(finding.verdict, Verdict::kOk) << Line(finding);
  HostLimits tight = none;
  tight.locked_bytes = 8U << 20;
  tight.address_bytes = kGiB;
  tight.cgroup_tasks = 100;
  EXPECT_EQ(Of(JudgeLimits(tight, false), "locked memory").verdict, Verdict::kOk);
  EXPECT_EQ(Of(JudgeLimits(tight, true), "locked memory").verdict, Verdict::kWarn);
  EXPECT_EQ(Of(JudgeLimits(tight, true), "address space").verdict, Verdict::kBad);
  EXPECT_EQ(Of(JudgeLimits(tight, true), "processes and threads").verdict, Verdict::kBad);
}

TEST(HostTest, ALimitOfThisProcessIsTheOneThatIsRead) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const rlimit files{100, 200};
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) _exit(2);
    const HostLimits limits = ReadLimits();
    const bool read = limits.open_files == Limit(100) && limits.open_files_hard == Limit(200);
    _exit(read && JudgeLimits(limits, false).front().verdict == Verdict::kBad ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(HostTest, MemoryIsJudgedByTheTighterOfHostAndCgroup) {
  HostMemory memory;
  memory.total_bytes = 64 * kGiB;
  memory.available_bytes = 32 * kGiB;
  HostLimits limits;
  for (const Finding& finding : JudgeMemory(memory, limits, false)) EXPECT_EQ(finding.verdict, Verdict::kOk);
  limits.cgroup_memory = 8 * kGiB;
  EXPECT_EQ(Of(JudgeMemory(memory, limits, false), "memory").verdict, Verdict::kWarn);
  memory.available_bytes = kGiB / 2;
  memory.overcommit = 2;
  const Findings findings = JudgeMemory(memory, limits, true);
  EXPECT_EQ(Of(findings, "memory").verdict, Verdict::kBad);
  EXPECT_EQ(Of(findings, "overcommit").verdict, Verdict::kWarn);
  EXPECT_EQ(Of(findings, "shared memory").verdict, Verdict::kWarn);
  ExpectRemedies(findings);
}

TEST(HostTest, ScalarCodeAndStolenCoresAreSaid) {
  HostCpu cpu{"a processor", 8, 0, {{"AVX3", "AVX2", "SCALAR"}, {"AVX2", "SSE4"}, "AVX2"}};
  for (const Finding& finding : JudgeCpu(cpu)) EXPECT_EQ(finding.verdict, Verdict::kOk);
  EXPECT_EQ(Of(JudgeCpu(cpu), "instruction set").found,
            "AVX2 is used; built for AVX3 AVX2 SCALAR, this host has AVX2 SSE4");
  cpu.quota = 2.5;
  cpu.sets.used = "SCALAR";
  for (const Finding& finding : JudgeCpu(cpu)) EXPECT_EQ(finding.verdict, Verdict::kWarn);
  cpu.sets.used = "";
  EXPECT_EQ(Of(JudgeCpu(cpu), "instruction set").verdict, Verdict::kBad);
}

TEST(HostTest, ThisHostIsRead) {
  const HostMemory memory = ReadMemory();
  EXPECT_GT(memory.total_bytes, memory.available_bytes);
  EXPECT_GT(memory.available_bytes, 0);
  const HostCpu cpu = ReadCpu();
  EXPECT_GT(cpu.threads, 0);
  EXPECT_THAT(cpu.sets.compiled, Contains(cpu.sets.used));
}

TEST(GpuTest, IsJudgedByWhatFitsTogether) {
  GpuSystem system;
  for (const Finding& finding : JudgeGpus(system)) EXPECT_EQ(finding.verdict, Verdict::kOk);
  system.kernel_driver = "NVRM version: 550";
  EXPECT_EQ(Of(JudgeGpus(system), "CUDA").verdict, Verdict::kWarn);
  system.has_cuda = true;
  system.cuda_version = 12040;
  system.devices = 8;
  EXPECT_EQ(Of(JudgeGpus(system), "CUDA").found, "12.4, 8 devices");
  EXPECT_EQ(Of(JudgeGpus(system), "NCCL").verdict, Verdict::kWarn);
  system.has_nccl = true;
  system.nccl_version = 22803;
  EXPECT_EQ(Of(JudgeGpus(system), "NCCL").found, "2.28.3");
  ExpectRemedies(JudgeGpus(system));
  system.cuda_error = "cuInit gives error 803";
  EXPECT_EQ(Of(JudgeGpus(system), "CUDA").verdict, Verdict::kWarn);
  ExpectRemedies(JudgeGpus(ReadGpus()));
}

TEST(NetworkTest, TheLoopbackIsAmongTheInterfaces) {
  const Findings findings = LookAtInterfaces();
  EXPECT_THAT(Of(findings, "interface lo").found, HasSubstr("127.0.0.1"));
  ExpectRemedies(findings);
  ExpectRemedies({LookAtHostName(), LookAtOwnClock()});
}

TEST(NetworkTest, TheMeetingPointIsListenedOnOrConnectedTo) {
  const auto look = [](const comm::Address& address) { return LookAtMeetingPoint(address, seconds(1)); };
  EXPECT_EQ(look(comm::ParseAddress("127.0.0.1:0")).verdict, Verdict::kOk);
  const comm::Listener taken(comm::ParseAddress("127.0.0.1:0"));
  const Finding busy = look(taken.address());
  EXPECT_EQ(busy.verdict, Verdict::kBad);
  EXPECT_THAT(busy.found, HasSubstr("Address already in use"));
  const Finding unknown = look(comm::ParseAddress("no-such-host.invalid:80"));
  EXPECT_EQ(unknown.verdict, Verdict::kBad);
  EXPECT_THAT(unknown.found, HasSubstr("no-such-host.invalid cannot be resolved"));
}

// A doctor that answers, with a clock that is `ahead` of this host's.
class AnsweringDoctor {
 public:
  explicit AnsweringDoctor(Duration ahead)
      : listener_(comm::ParseAddress("127.0.0.1:0")), thread_([this, ahead] {
          AnswerProbes(
              listener_, "build 1", [ahead] { return WallNs() + ahead.count(); },
              [this] { return stop_.load(); });
        }) {}
  ~AnsweringDoctor() {
    stop_ = true;
    thread_.join();
  }
  const comm::Address& address() const { return listener_.address(); }

 private:
  comm::Listener listener_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

TEST(TimeProbeTest, MeasuresTheDifferenceOfClocks) {
  for (const Duration ahead : {Duration(0), Duration(seconds(3)), Duration(seconds(-3600))}) {
    const AnsweringDoctor peer(ahead);
    const std::string name = peer.address().ToString();
    const Findings findings = AskPeer(peer.address(), "build 1", seconds(5));
    EXPECT_EQ(Of(findings, "peer " + name).verdict, Verdict::kOk);
    EXPECT_EQ(Of(findings, "build of " + name).verdict, Verdict::kOk);
    const Finding& clock = Of(findings, "clock of " + name);
    EXPECT_EQ(clock.verdict, ahead == Duration(0) ? Verdict::kOk : Verdict::kWarn);
    double ms = 0;
    double unsure_ms = 0;
    ASSERT_EQ(
        std::sscanf(clock.found.c_str(), "%lf ms against this host's, known to %lf ms", &ms, &unsure_ms), 2);
    EXPECT_LE(std::abs(ms - static_cast<double>(ahead.count()) / 1e6), unsure_ms + 0.002) << clock.found;
    ExpectRemedies(findings);
  }
}

TEST(TimeProbeTest, AnotherBuildIsBad) {
  const AnsweringDoctor peer(Duration(0));
  const std::string name = peer.address().ToString();
  const Finding build = Of(AskPeer(peer.address(), "build 2", seconds(5)), "build of " + name);
  EXPECT_EQ(build.verdict, Verdict::kBad);
  EXPECT_EQ(build.found, "build 1, here it is build 2");
}

TEST(TimeProbeTest, APeerThatIsNoDoctorIsBad) {
  const comm::Listener silent(comm::ParseAddress("127.0.0.1:0"));
  EXPECT_EQ(AskPeer(silent.address(), "build 1", std::chrono::milliseconds(100)).front().verdict,
            Verdict::kBad);
  comm::Address nobody = silent.address();
  { nobody = comm::Listener(comm::ParseAddress("127.0.0.1:0")).address(); }
  const Finding refused = AskPeer(nobody, "build 1", seconds(1)).front();
  EXPECT_EQ(refused.verdict, Verdict::kBad);
  EXPECT_THAT(refused.found, HasSubstr("Connection refused"));
}

}  // namespace
}  // namespace sluice::doctor
