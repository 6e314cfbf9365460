#include "comm/faulty_channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/ordered_channel.h"
#include "comm/test_worlds.h"

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

// Two ends that count their frames; those of step 2 that the first end sends are struck by `fault`.
std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> Struck(const Fault& fault) {
  auto [here, there] = MakeChannelPair();
  here = MakeFaultyChannel(std::move(here), [fault](const Frame& frame) {
    return frame.step == 2 ? std::optional(fault) : std::nullopt;
  });
  return {MakeOrderedChannel(std::move(here)), MakeOrderedChannel(std::move(there))};
}

Fault FrameFault(FaultAction action, Duration delay = Duration(0)) {
  Fault fault;
  fault.action = action;
  fault.delay = delay;
  return fault;
}

// The steps of four frames in the order they came, and the sentence that ended it, if one did.
std::pair<std::vector<uint64_t>, std::string> Received(Channel& there) {
  std::vector<uint64_t> steps;
  try {
    while (steps.size() < 4) {
      const auto frame = there.Receive(seconds(10));
      if (!frame.has_value()) return {steps, "nothing came"};
      steps.push_back(frame->step);
    }
  } catch (const Error& error) {
    return {steps, error.what()};
  }
  return {steps, ""};
}

struct Case {
  FaultAction action;
  Duration delay;
  size_t arrive;  // frames before the end
  const char* says;
};

TEST(FaultyChannel, EveryFaultButADelayIsFoundByTheOtherEnd) {
  const Case table[] = {
      {FaultAction::kDelay, milliseconds(200), 4, ""},
      {FaultAction::kDrop, {}, 1, "came after frame 1; what lies between was lost or overtaken"},
      {FaultAction::kDuplicate, {}, 2, "came again after frame 2"},
      {FaultAction::kReorder, seconds(10), 1, "came after frame 1; what lies between was lost or overtaken"},
      {FaultAction::kCorrupt, {}, 1, "checksum"},
  };
  for (const Case& one : table) {
    const auto [here, there] = Struck(FrameFault(one.action, one.delay));
    std::vector<uint64_t> steps;
    std::string sentence;
    const double took = SecondsOf([&, &from = *here, &to = *there] {
      for (uint64_t step = 1; step <= 4; ++step) from.Send({1, step, 0, std::vector<std::byte>(100)});
      std::tie(steps, sentence) = Received(to);
    });
    EXPECT_EQ(steps.size(), one.arrive) << NameOf(one.action);
    for (size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], i + 1) << NameOf(one.action);
    EXPECT_THAT(sentence, HasSubstr(one.says)) << NameOf(one.action);
    if (one.action == FaultAction::kDelay) {
      EXPECT_GE(took, 0.195);
    }
    EXPECT_LT(took, 9.0) << NameOf(one.action);
  }
}

TEST(FaultyChannel, AFrameHeldForAnOtherThatNeverComesGoesAlone) {
  const auto [here, there] = Struck(FrameFault(FaultAction::kReorder, milliseconds(100)));
  here->Send({1, 1, 0, {}});
  here->Send({1, 2, 0, {}});
  EXPECT_EQ(there->Receive(seconds(10))->step, 1U);
  EXPECT_EQ(there->Receive(seconds(10))->step, 2U);
}

TEST(FaultyChannel, CloseEndsWhatIsHeld) {
  auto [here, there] = Struck(FrameFault(FaultAction::kDelay, seconds(60)));
  here->Send({1, 2, 0, {}});
  EXPECT_LT(SecondsOf([&here = here] { here.reset(); }), 5.0);
  EXPECT_THAT(LostSentence([&there = there] { there->Receive(seconds(10)); }), HasSubstr("closed"));
}

}  // namespace
}  // namespace sluice::comm
