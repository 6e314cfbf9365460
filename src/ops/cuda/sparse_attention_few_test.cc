#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "ops/cuda/attention_calls.h"
#include "ops/cuda/attention_world.h"
#include "ops/cuda/held_sm.h"
#include "ops/cuda/on_device.h"
#include "ops/cuda/stream.h"

// Few rows, whose blocks of threads wait for one another: they end, with the bits of many rows, and leave
// nothing published.
namespace sluice::ops::cuda {
namespace {

class FewRowsTest : public testing::TestWithParam<std::tuple<CacheFormat, int64_t>> {
 protected:
  // Blocks of threads for four times the SMs that there are.
  static constexpr int kWaves = 4;

  // What all tests of a parameter share.
  struct Shared {
    explicit Shared(const ParamType& param)
        : world(std::get<0>(param), std::get<1>(param), 1),
          attention(world, kWaves * Sms()),
          all(attention.Attend({})) {}
    const AttentionWorld world;
    const Attention attention;
    const std::vector<BF16> all;
  };

  static void TearDownTestSuite() { shared_.clear(); }
  void SetUp() override {
    if (!HasGpu()) GTEST_SKIP() << "there is no GPU";
    auto& shared = shared_[GetParam()];
    if (shared == nullptr) shared = std::make_unique<Shared>(GetParam());
  }
  const AttentionWorld& world() const { return shared_.at(GetParam())->world; }
  const Attention& attention() const { return shared_.at(GetParam())->attention; }
  void ExpectSame(const Attention::Part& part, const std::vector<BF16>& o, const char* what) const {
    attention().ExpectSame(shared_.at(GetParam())->all, part, o, what);
  }
  void ExpectSame(const Attention::Part& part, const char* what) const {
    ExpectSame(part, attention().Attend(part), what);
  }
  int head_groups() const { return static_cast<int>((world().heads + kTileHeads - 1) / kTileHeads); }

 private:
  static inline std::map<ParamType, std::unique_ptr<Shared>> shared_;
};

// Most blocks of threads start when others have ended: none that runs waits for one that has not started.
TEST_P(FewRowsTest, EndWhereBlocksOfThreadsStartLate) {
  for (const int waves : {2, kWaves}) {
    const int sms = waves * Sms();
    for (const int64_t rows : {1, 5, 16, 33, 64}) {
      ExpectSame({.rows = rows, .sms = sms}, "in waves");
      ExpectSame({.first_row = AttentionWorld::kRows - rows, .rows = rows, .sms = sms}, "in waves, the last");
    }
  }
}

// A block of threads has several blocks of keys, whose weights wait until all its scores are there.
TEST_P(FewRowsTest, AreTheSameOnFewSms) {
  for (int64_t first = 0; first < 14; ++first) {
    for (const int sms : {3, 8, 9, 15, 23}) {
      ExpectSame({.first_row = first, .rows = 1, .sms = sms * head_groups()}, "alone");
    }
    ExpectSame({.first_row = first, .rows = 3, .sms = 25 * head_groups()}, "of three");
  }
}

TEST_P(FewRowsTest, FollowOneAnotherAndAreReplayed) {
  // With and without published numbers, the same rows' and others'.
  const std::vector<Attention::Part> parts = {
      {.first_row = 5, .rows = 8},  {.first_row = 0, .rows = 1},
      {.first_row = 1, .rows = 1},  {.first_row = 200, .rows = 30},
      {.first_row = 10, .rows = 4}, {.first_row = 0, .rows = 12, .sms = kWaves * Sms()},
      {.first_row = 100, .rows = 2}};
  std::vector<std::unique_ptr<Attention::Call>> calls;
  calls.reserve(parts.size());
  for (const Attention::Part& part : parts) {
    calls.push_back(std::make_unique<Attention::Call>(attention(), part));
  }
  const auto expect_same = [&](const char* what) {
    for (const auto& call : calls) ExpectSame(call->part(), call->Take(), what);
    attention().ExpectNothingPublished();
  };
  const Stream stream;
  const auto enqueue = [&] {
    for (const auto& call : calls) call->Enqueue(stream);
  };
  enqueue();
  Must(cudaStreamSynchronize(stream));
  expect_same("in a row");
  cudaGraph_t graph = nullptr;
  Must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  enqueue();
  Must(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t replayed = nullptr;
  Must(cudaGraphInstantiate(&replayed, graph, 0));
  for (int replay = 0; replay < 3; ++replay) {
    Must(cudaGraphLaunch(replayed, stream));
    Must(cudaGraphLaunch(replayed, stream));
    Must(cudaStreamSynchronize(stream));
    expect_same("replayed");
  }
  Must(cudaGraphExecDestroy(replayed));
  Must(cudaGraphDestroy(graph));
}

TEST_P(FewRowsTest, EndBesideKernelsThatHoldSms) {
  constexpr int kHeld = 20;
  Attention::Call call(attention(), {.first_row = 3, .rows = 8});
  const Stream stream;
  call.Enqueue(stream);  // to begin with: a kernel that must be loaded may wait for others
  Must(cudaStreamSynchronize(stream));
  call.Take();
  std::vector<std::unique_ptr<HeldSm>> held;
  held.reserve(kHeld);
  for (int i = 0; i < kHeld; ++i) held.push_back(std::make_unique<HeldSm>());
  const auto all_are_held = [&] {
    return std::all_of(held.begin(), held.end(), [](const auto& sm) { return sm->Occupied(); });
  };
  for (const auto& sm : held) sm->Begin();
  const Deadline deadline = Clock::now() + std::chrono::seconds(1);
  while (!all_are_held() && Clock::now() < deadline) std::this_thread::yield();
  for (int i = 0; i < 10; ++i) call.Enqueue(stream);
  Must(cudaStreamSynchronize(stream));
  EXPECT_TRUE(all_are_held());
  for (const auto& sm : held) sm->End();
  ExpectSame(call.part(), call.Take(), "beside others");
  attention().ExpectNothingPublished();
}

INSTANTIATE_TEST_SUITE_P(Attention, FewRowsTest,
                         testing::Combine(testing::Values(CacheFormat::kFp8, CacheFormat::kBf16),
                                          testing::Values(128, 64)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param) == CacheFormat::kFp8 ? "Fp8" : "Bf16") +
                                  std::to_string(std::get<1>(test.param)) + "Heads";
                         });

}  // namespace
}  // namespace sluice::ops::cuda
