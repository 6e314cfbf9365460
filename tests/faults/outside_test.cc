#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>

#include <cstdlib>
#include <functional>
#include <optional>
#include <thread>

#include "comm/job_secret.h"
#include "fault_job.h"

// Faults from outside the program: signals, and rules that the kernel's routing obeys, in a network of the
// test's own. Together with faults_test.cc, where a rank is killed and another stopped for good.
namespace sluice::layouts {
namespace {

constexpr Duration kSoft = std::chrono::seconds(2);
constexpr Duration kLong = std::chrono::seconds(60);

bool Shell(const std::string& command) { return std::system((command + " 2>/dev/null").c_str()) == 0; }

TEST(FaultsFromOutside, ARankThatIsStoppedAndContinuedIsNamedAndThenReadyAgain) {
  FaultJob job(FaultSettings({}, kSoft, kLong));
  kill(job.pid(1), SIGSTOP);
  Client client;
  client.Ask(job.engine());
  const engine::StallReport report = job.WaitForVerdict(Clock::now() + kLong);
  EXPECT_EQ(report.named_rank, 1) << report.text;
  EXPECT_FALSE(report.ended);
  kill(job.pid(1), SIGCONT);
  EXPECT_TRUE(job.WaitForRecovery(Clock::now() + kLong)) << job.engine().Report().text;
  ASSERT_TRUE(client.WaitUntil(Clock::now() + kLong));
  EXPECT_EQ(client.error(), "");
  EXPECT_EQ(client.tokens(), RightAnswer());
  EXPECT_EQ(job.EndAndLookForLeftovers(), "");
}

// Three nodes with a rank each, on three addresses of a loopback that belongs to this thread and what it starts.
class OwnNetwork {
 public:
  OwnNetwork() {
    // The table of local addresses is asked after the rules to come, not before.
    there_ = unshare(CLONE_NEWNET) == 0 && Shell("ip link set lo up") &&
             Shell("ip rule add pref 100 lookup local") && Shell("ip rule del pref 0");
  }
  bool there() const { return there_; }
  bool Block(const std::string& between) { return Shell("ip rule add pref 10 " + between + " blackhole"); }
  bool Unblock(const std::string& between) { return Shell("ip rule del pref 10 " + between + " blackhole"); }

 private:
  bool there_ = false;
};

std::string AddressOf(int rank) { return fmt::format("127.0.0.{}", rank + 2); }

class ThreeNodes {
 public:
  ThreeNodes(Duration soft, Duration hard) {
    engine::ProcessPlan plan;
    plan.program = SLUICE_PROGRAM;
    plan.nodes = kStages;
    plan.join_address = "127.0.0.1:29500";
    plan.secret = comm::JobSecret::Random();
    for (int node = 1; node < kStages; ++node) {
      nodes_.emplace_back([plan, soft, hard, node]() mutable {
        plan.node = node;
        engine::RunNode(SettingsOfNode(node, soft, hard), plan);
      });
    }
    job_.emplace(SettingsOfNode(0, soft, hard), plan);
  }
  ~ThreeNodes() {
    job_.reset();
    for (std::thread& node : nodes_) node.join();
  }
  FaultJob& operator*() { return *job_; }
  FaultJob* operator->() { return &*job_; }

 private:
  static engine::JobSettings SettingsOfNode(int node, Duration soft, Duration hard) {
    engine::JobSettings settings = FaultSettings({}, soft, hard);
    settings.data_plane_address = AddressOf(node);
    return settings;
  }
  std::vector<std::thread> nodes_;
  std::optional<FaultJob> job_;
};

// Runs the body in a thread with a network of its own, which needs the right to make one.
void InOwnNetwork(const std::function<void(OwnNetwork&)>& body) {
  RightAnswer();
  std::thread thread([&] {
    OwnNetwork network;
    if (network.there()) return body(network);
    fmt::print("left out: this system does not let the test make a network of its own (unshare, ip rule)\n");
  });
  thread.join();
}

TEST(FaultsFromOutside, ARankWhoseRowsARuleOfTheFirewallEatsIsNamedAndTheJobEnds) {
  InOwnNetwork([](OwnNetwork& network) {
    ThreeNodes job(kSoft, std::chrono::seconds(4));
    Client first;
    first.Ask(job->engine());
    ASSERT_TRUE(first.WaitUntil(Clock::now() + kLong));
    EXPECT_EQ(first.tokens(), RightAnswer());
    ASSERT_TRUE(network.Block(fmt::format("from {} to {}", AddressOf(0), AddressOf(1))));
    Client client;
    client.Ask(job->engine());
    const engine::StallReport report = job->WaitForVerdict(Clock::now() + kLong);
    EXPECT_EQ(report.named_rank, 0) << report.text;
    EXPECT_NE(report.verdict.find("what it sent to rank 1 has not come"), std::string::npos) << report.verdict;
    ASSERT_TRUE(client.WaitUntil(Clock::now() + kLong));
    EXPECT_TRUE(client.error().starts_with("rank 0 (stage 0, lane 0)")) << client.error();
    EXPECT_EQ(job->EndAndLookForLeftovers(), "");
  });
}

TEST(FaultsFromOutside, APausedLinkIsReportedAndThenForgotten) {
  InOwnNetwork([](OwnNetwork& network) {
    ThreeNodes job(kSoft, kLong);
    const std::string out = fmt::format("from {} to {}", AddressOf(1), AddressOf(2));
    const std::string back = fmt::format("from {} to {}", AddressOf(2), AddressOf(1));
    ASSERT_TRUE(network.Block(out) && network.Block(back));
    Client client;
    client.Ask(job->engine());
    const engine::StallReport report = job->WaitForVerdict(Clock::now() + kLong);
    EXPECT_EQ(report.named_rank, 1) << report.text;
    EXPECT_FALSE(report.ended);
    ASSERT_TRUE(network.Unblock(out) && network.Unblock(back));
    EXPECT_TRUE(job->WaitForRecovery(Clock::now() + kLong)) << job->engine().Report().text;
    ASSERT_TRUE(client.WaitUntil(Clock::now() + kLong));
    EXPECT_EQ(client.error(), "");
    EXPECT_EQ(client.tokens(), RightAnswer());
  });
}

}  // namespace
}  // namespace sluice::layouts
