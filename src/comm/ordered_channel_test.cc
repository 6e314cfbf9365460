#include "comm/ordered_channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/test_worlds.h"

namespace sluice::comm {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

Frame Typed(int type) { return {static_cast<uint16_t>(type), 0, 0, {}}; }

// Sends through `tamper`, which may send on what it gets, or not, or again.
class TamperingChannel final : public Channel {
 public:
  using Tamper = std::function<void(const Frame&, Channel& onward)>;
  TamperingChannel(std::unique_ptr<Channel> inner, Tamper tamper)
      : inner_(std::move(inner)), tamper_(std::move(tamper)) {}
  void Send(const Frame& frame) override { tamper_(frame, *inner_); }
  void SendEncoded(std::vector<std::byte> bytes) override { inner_->SendEncoded(std::move(bytes)); }
  std::optional<Frame> Receive(Duration timeout) override { return inner_->Receive(timeout); }
  void Close() override { inner_->Close(); }

 private:
  std::unique_ptr<Channel> inner_;
  Tamper tamper_;
};

// Sends frames of types 1, 2, 3 and 4 through `tamper` and returns what the receiver had to say; `received`
// counts what arrived before.
std::string Complaint(TamperingChannel::Tamper tamper, int& received) {
  auto [here, there] = MakeChannelPair();
  here->SetPeer("rank 3");
  const auto receiver = MakeOrderedChannel(std::move(here));
  const auto sender =
      MakeOrderedChannel(std::make_unique<TamperingChannel>(std::move(there), std::move(tamper)));
  for (int type = 1; type <= 4; ++type) sender->Send(Typed(type));
  received = 0;
  const std::string sentence = LostSentence([&] {
    for (; received < 4; ++received) EXPECT_EQ(receiver->Receive(seconds(5)), Typed(received + 1));
  });
  // Nothing can follow, but the sender can be told.
  EXPECT_EQ(LostSentence([&] { receiver->Receive(seconds(5)); }), sentence);
  receiver->Send(Typed(9));
  EXPECT_EQ(sender->Receive(seconds(5)), Typed(9));
  return sentence;
}

TEST(OrderedChannelTest, FramesOfManySendersArriveAsTheyWere) {
  auto [here, there] = MakeChannelPair();
  const auto receiver = MakeOrderedChannel(std::move(here));
  const auto sender = MakeOrderedChannel(std::move(there));
  OnAllRanks(4, [&](int rank) {
    for (int i = 0; i < 250; ++i) sender->Send(Typed(rank));
    receiver->Send(Typed(9));  // the other direction counts for itself
  });
  int counts[4] = {};
  for (int i = 0; i < 1000; ++i) ++counts[receiver->Receive(seconds(5))->type];
  for (const int count : counts) EXPECT_EQ(count, 250);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(sender->Receive(seconds(5)), Typed(9));
}

TEST(OrderedChannelTest, ALostFrameIsNoticedAtTheNext) {
  int received = 0;
  const auto sentence = Complaint(
      [](const Frame& frame, Channel& onward) {
        if (frame.type != 3) onward.Send(frame);
      },
      received);
  EXPECT_EQ(received, 2);
  EXPECT_EQ(
      sentence,
      "control frame 4 of rank 3, of type 4, came after frame 2; what lies between was lost or overtaken");
}

TEST(OrderedChannelTest, AFrameThatComesTwiceIsNoticed) {
  int received = 0;
  const auto sentence = Complaint(
      [](const Frame& frame, Channel& onward) {
        onward.Send(frame);
        if (frame.type == 2) onward.Send(frame);
      },
      received);
  EXPECT_EQ(received, 2);
  EXPECT_EQ(sentence, "control frame 2 of rank 3, of type 2, came again after frame 2");
}

TEST(OrderedChannelTest, FramesThatOvertakeAreNoticed) {
  int received = 0;
  const auto sentence = Complaint(
      [held = Frame()](const Frame& frame, Channel& onward) mutable {
        if (frame.type == 2) {
          held = frame;
          return;
        }
        onward.Send(frame);
        if (frame.type == 3) onward.Send(held);
      },
      received);
  EXPECT_EQ(received, 1);
  EXPECT_THAT(sentence, HasSubstr("control frame 3 of rank 3, of type 3, came after frame 1"));
}

TEST(OrderedChannelTest, AFrameNobodyCountedIsRefused) {
  auto [here, there] = MakeChannelPair();
  const auto receiver = MakeOrderedChannel(std::move(here));
  there->Send(Typed(7));
  EXPECT_EQ(LostSentence([&] { receiver->Receive(seconds(5)); }),
            "the peer sent a control frame of type 7 that nobody has counted");
}

}  // namespace
}  // namespace sluice::comm
