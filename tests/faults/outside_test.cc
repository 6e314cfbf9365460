#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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

// What a command prints; empty when it cannot be run.
std::string Output(const std::string& command) {
  std::string text;
  std::FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return text;
  std::array<char, 4096> piece{};
  while (const size_t count = std::fread(piece.data(), 1, piece.size(), pipe))
    text.append(piece.data(), count);
  pclose(pipe);
  return text;
}

// A loopback that belongs to this thread and what it starts.
class OwnNetwork {
 public:
  OwnNetwork() {
    // The table of local addresses is asked after the rules to come, not before.
    there_ = unshare(CLONE_NEWNET) == 0 && Shell("ip link set lo up") &&
             Shell("ip rule add pref 100 lookup local") && Shell("ip rule del pref 0");
  }
  bool there() const { return there_; }
  bool Block(const std::string& packets) { return Shell("ip rule add pref 10 " + packets + " blackhole"); }
  bool Unblock(const std::string& packets) { return Shell("ip rule del pref 10 " + packets + " blackhole"); }

  // How a rule knows the packets of the data plane that process `from` sends to process `to`.
  static std::string Packets(int from, int to) {
    const auto ours = Connections(from);
    for (const auto& [local, remote] : Connections(to)) {
      for (const auto& [our_local, our_remote] : ours) {
        if (our_local != remote || our_remote != local) continue;
        const auto [address, port] = Split(our_local);
        const auto [other_address, other_port] = Split(our_remote);
        return fmt::format("ipproto tcp from {} to {} sport {} dport {}", address, other_address, port,
                           other_port);
      }
    }
    return "";
  }

 private:
  // (local, remote) of the connections of a process.
  static std::vector<std::pair<std::string, std::string>> Connections(int pid) {
    std::vector<std::pair<std::string, std::string>> found;
    std::istringstream lines(Output("ss -tnpH state established"));
    for (std::string line; std::getline(lines, line);) {
      if (line.find(fmt::format("pid={},", pid)) == std::string::npos) continue;
      std::istringstream words(line);
      std::string received, sent, local, remote;
      words >> received >> sent >> local >> remote;
      found.emplace_back(local, remote);
    }
    return found;
  }
  static std::pair<std::string, std::string> Split(const std::string& endpoint) {
    const size_t colon = endpoint.rfind(':');
    return {endpoint.substr(0, colon), endpoint.substr(colon + 1)};
  }

  bool there_ = false;
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
    FaultJob job(FaultSettings({}, kSoft, std::chrono::seconds(4)));
    Client first;
    first.Ask(job.engine());
    ASSERT_TRUE(first.WaitUntil(Clock::now() + kLong));
    EXPECT_EQ(first.tokens(), RightAnswer());
    const std::string packets = OwnNetwork::Packets(job.pid(0), job.pid(1));
    ASSERT_TRUE(!packets.empty() && network.Block(packets)) << packets;
    Client client;
    client.Ask(job.engine());
    const engine::StallReport report = job.WaitForVerdict(Clock::now() + kLong);
    EXPECT_EQ(report.named_rank, 0) << report.text;
    EXPECT_NE(report.verdict.find("what it sent to rank 1 has not come"), std::string::npos)
        << report.verdict;
    ASSERT_TRUE(client.WaitUntil(Clock::now() + kLong));
    EXPECT_TRUE(client.error().starts_with("rank 0 (stage 0, lane 0)")) << client.error();
    EXPECT_EQ(job.EndAndLookForLeftovers(), "");
  });
}

TEST(FaultsFromOutside, APausedLinkIsReportedAndThenForgotten) {
  InOwnNetwork([](OwnNetwork& network) {
    FaultJob job(FaultSettings({}, kSoft, kLong));
    const std::string out = OwnNetwork::Packets(job.pid(1), job.pid(2));
    const std::string back = OwnNetwork::Packets(job.pid(2), job.pid(1));
    ASSERT_TRUE(!out.empty() && network.Block(out) && network.Block(back)) << out;
    Client client;
    client.Ask(job.engine());
    const engine::StallReport report = job.WaitForVerdict(Clock::now() + kLong);
    EXPECT_EQ(report.named_rank, 1) << report.text;
    EXPECT_FALSE(report.ended);
    ASSERT_TRUE(network.Unblock(out) && network.Unblock(back));
    EXPECT_TRUE(job.WaitForRecovery(Clock::now() + kLong)) << job.engine().Report().text;
    ASSERT_TRUE(client.WaitUntil(Clock::now() + kLong));
    EXPECT_EQ(client.error(), "");
    EXPECT_EQ(client.tokens(), RightAnswer());
  });
}

}  // namespace
}  // namespace sluice::layouts
