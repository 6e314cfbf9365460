#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "comm/join_frames.h"
#include "comm/rendezvous.h"
#include "comm/test_worlds.h"

// Who does not know the job's secret gets nowhere, on either side, and who does is let in in one way only.
// Hands play the rank, or the controller, frame by frame.
namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const JobSecret kOurSecret("the secret of this job", "the test");
const JobSecret kOther("another job's own secret", "the test");
const Hello kHello{0, 1, "b", "pp 1"};

Frame Next(Channel& channel, JoinFrame type) {
  auto frame = channel.Receive(seconds(5));
  EXPECT_TRUE(frame.has_value());
  if (!frame.has_value()) return {};
  EXPECT_EQ(TypeOf(*frame), type);
  return *std::move(frame);
}

// A controller for one rank; strangers come and go before the rank does.
class ControllerTest : public ::testing::Test {
 protected:
  ControllerTest()
      : rendezvous_(kAnyPort, kHello, kOurSecret),
        accepted_(std::async(std::launch::async, [this] { return rendezvous_.Accept(seconds(20)); })) {}
  // Whatever the test did, the job starts with the rank that belongs to it.
  void TearDown() override {
    const auto channel = Join(rendezvous_.address(), kHello, kOurSecret, seconds(10));
    SayConnected(*channel);
    EXPECT_EQ(accepted_.get().size(), 1U);
  }

  std::unique_ptr<Channel> Connect() {
    return TryConnect(rendezvous_.address(), "the controller", seconds(5));
  }
  // The first two frames of a joining by `secret`; what they were.
  static Joining SayHello(Channel& channel, const JobSecret& secret) {
    Joining joining{DecodeNonceOrProof(Next(channel, JoinFrame::kChallenge)), MakeNonce(),
                    EncodeHello(kHello)};
    SendJoin(channel, JoinFrame::kHello,
             Encode(HelloFrame{joining.ranks, secret.Sign(joining.ClaimOfRank()), joining.hello}));
    return joining;
  }
  // The refusal that a stranger gets: it carries nothing.
  static void ExpectRefused(Channel& channel) {
    const RefusedFrame refused = DecodeRefusedFrame(Next(channel, JoinFrame::kRefused));
    EXPECT_EQ(refused.sentence, "");
    EXPECT_EQ(refused.proof, Mac{});
    EXPECT_THAT(LostSentence([&] { channel.Receive(seconds(5)); }), HasSubstr("closed"));
  }

  Rendezvous rendezvous_;
  std::future<std::vector<std::unique_ptr<Channel>>> accepted_;
};

TEST_F(ControllerTest, ProvesItselfToARankThatHasProvenItself) {
  const auto channel = Connect();
  const Joining joining = SayHello(*channel, kOurSecret);
  const Mac proof = DecodeNonceOrProof(Next(*channel, JoinFrame::kWelcome));
  EXPECT_TRUE(kOurSecret.Verifies(joining.ClaimOfController(), proof));
  channel->Close();
  // The rank that left after it was welcome ends this start-up; the next one is the job's.
  EXPECT_THAT(LostSentence([this] { accepted_.get(); }), HasSubstr("rank 0 was lost while joining"));
  accepted_ = std::async(std::launch::async, [this] { return rendezvous_.Accept(seconds(20)); });
}

TEST_F(ControllerTest, RefusesAnotherSecretWithoutAWordMadeWithItsOwn) {
  const auto channel = Connect();
  SayHello(*channel, kOther);
  ExpectRefused(*channel);
}

TEST_F(ControllerTest, RefusesAHelloChangedAfterItWasProven) {
  const auto channel = Connect();
  Joining joining{DecodeNonceOrProof(Next(*channel, JoinFrame::kChallenge)), MakeNonce(),
                  EncodeHello(kHello)};
  const Mac proof = kOurSecret.Sign(joining.ClaimOfRank());
  Hello changed = kHello;
  changed.description = "pp 2";
  SendJoin(*channel, JoinFrame::kHello, Encode(HelloFrame{joining.ranks, proof, EncodeHello(changed)}));
  ExpectRefused(*channel);
}

TEST_F(ControllerTest, RefusesAHelloThatWasHeardBefore) {
  const auto first = Connect();
  DecodeNonceOrProof(Next(*first, JoinFrame::kChallenge));
  // As if the rank had answered another controller, or this one another time.
  const Joining old{MakeNonce(), MakeNonce(), EncodeHello(kHello)};
  SendJoin(*first, JoinFrame::kHello,
           Encode(HelloFrame{old.ranks, kOurSecret.Sign(old.ClaimOfRank()), old.hello}));
  ExpectRefused(*first);
  // Every connection has a challenge of its own.
  const auto second = Connect();
  const auto third = Connect();
  EXPECT_NE(DecodeNonceOrProof(Next(*second, JoinFrame::kChallenge)),
            DecodeNonceOrProof(Next(*third, JoinFrame::kChallenge)));
}

TEST_F(ControllerTest, RefusesAProofOfTheOtherRole) {
  const auto channel = Connect();
  const Joining joining{DecodeNonceOrProof(Next(*channel, JoinFrame::kChallenge)), MakeNonce(),
                        EncodeHello(kHello)};
  SendJoin(*channel, JoinFrame::kHello,
           Encode(HelloFrame{joining.ranks, kOurSecret.Sign(joining.ClaimOfController()), joining.hello}));
  ExpectRefused(*channel);
}

TEST_F(ControllerTest, ClosesOnAnythingElse) {
  const std::vector<std::byte> short_payload(63);
  const struct {
    JoinFrame type;
    const std::vector<std::byte>& payload;
  } wrong[] = {{JoinFrame::kHello, short_payload},
               {JoinFrame::kSet, {}},
               {JoinFrame::kConnected, {}},
               {JoinFrame::kWelcome, short_payload},
               {static_cast<JoinFrame>(1), {}}};
  for (const auto& [type, payload] : wrong) {
    const auto channel = Connect();
    Next(*channel, JoinFrame::kChallenge);
    SendJoin(*channel, type, payload);
    LostSentence([&] { channel->Receive(seconds(5)); });
  }
}

TEST_F(ControllerTest, TakesNoLongFrameFromAStranger) {
  const auto channel = Connect();
  Hello verbose = kHello;
  verbose.description.assign(kMaxStrangersPayload, 'x');
  Joining joining{DecodeNonceOrProof(Next(*channel, JoinFrame::kChallenge)), MakeNonce(),
                  EncodeHello(verbose)};
  // Proven, so that only its length is wrong: a shorter one would be answered.
  SendJoin(*channel, JoinFrame::kHello,
           Encode(HelloFrame{joining.ranks, kOurSecret.Sign(joining.ClaimOfRank()), joining.hello}));
  LostSentence([&] { channel->Receive(seconds(5)); });
}

TEST_F(ControllerTest, SilentStrangersKeepNobodyOut) {
  // One for each place of strangers but the last.
  std::vector<std::unique_ptr<Channel>> silent;
  for (int i = 0; i < 16; ++i) silent.push_back(Connect());
  for (const auto& channel : silent) Next(*channel, JoinFrame::kChallenge);
}

// A hand-played controller; `answer` gets the rank's channel after its hello, and what was said.
std::string RefusalOf(const std::function<void(Channel&, const Joining&)>& answer) {
  Listener listener(kAnyPort);
  auto rank = std::async(std::launch::async, [&]() -> std::string {
    try {
      Join(listener.address(), kHello, kOurSecret, seconds(5));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage) << error.what();
      return error.what();
    }
    return "";
  });
  const auto channel = listener.Accept("rank 0", seconds(5));
  Joining joining{MakeNonce(), {}, {}};
  SendJoin(*channel, JoinFrame::kChallenge, Encode(joining.controllers));
  HelloFrame said = DecodeHelloFrame(Next(*channel, JoinFrame::kHello));
  joining.ranks = said.ranks;
  joining.hello = said.hello;
  EXPECT_TRUE(kOurSecret.Verifies(joining.ClaimOfRank(), said.proof));
  answer(*channel, joining);
  return rank.get();
}

const auto kIsUnknown = AllOf(HasSubstr("the controller at 127.0.0.1:"),
                              HasSubstr("does not know the job secret of rank 0; give every node the same "
                                        "SLUICE_JOB_SECRET or --job-secret-file"),
                              Not(HasSubstr("this job")));

TEST(RankTest, BelievesAWelcomeThatIsProven) {
  EXPECT_EQ(RefusalOf([](Channel& channel, const Joining& joining) {
              SendJoin(channel, JoinFrame::kWelcome, Encode(kOurSecret.Sign(joining.ClaimOfController())));
            }),
            "");
}

TEST(RankTest, RefusesAControllerThatDoesNotKnowTheSecret) {
  EXPECT_THAT(RefusalOf([](Channel& channel, const Joining& joining) {
                SendJoin(channel, JoinFrame::kWelcome, Encode(kOther.Sign(joining.ClaimOfController())));
              }),
              kIsUnknown);
}

TEST(RankTest, RefusesItsOwnProofSentBack) {
  EXPECT_THAT(RefusalOf([](Channel& channel, const Joining& joining) {
                SendJoin(channel, JoinFrame::kWelcome, Encode(kOurSecret.Sign(joining.ClaimOfRank())));
              }),
              kIsUnknown);
}

TEST(RankTest, RefusesAWelcomeOfAnotherJoining) {
  EXPECT_THAT(RefusalOf([](Channel& channel, Joining joining) {
                joining.ranks = MakeNonce();
                SendJoin(channel, JoinFrame::kWelcome, Encode(kOurSecret.Sign(joining.ClaimOfController())));
              }),
              kIsUnknown);
}

TEST(RankTest, ShowsARefusalOnlyWhenItIsProven) {
  const std::string sentence = "rank 0 was started with pp 1, the controller with pp 2";
  EXPECT_THAT(RefusalOf([&](Channel& channel, const Joining& joining) {
                const Mac proof = kOurSecret.Sign(joining.ClaimOfRefusal(sentence));
                SendJoin(channel, JoinFrame::kRefused, Encode(RefusedFrame{sentence, proof}));
              }),
              HasSubstr(" refused: " + sentence));
  EXPECT_THAT(RefusalOf([&](Channel& channel, const Joining& joining) {
                const Mac proof = kOurSecret.Sign(joining.ClaimOfRefusal(sentence));
                SendJoin(channel, JoinFrame::kRefused, Encode(RefusedFrame{"run rm -rf", proof}));
              }),
              AllOf(kIsUnknown, Not(HasSubstr("rm -rf"))));
}

TEST(RankTest, SaysNothingToWhoDoesNotChallengeAndLeavesWhoSpeaksOutOfTurn) {
  Listener listener(kAnyPort);
  const auto join = [&](Duration timeout) {
    return std::async(std::launch::async, [&listener, timeout] {
      return LostSentence([&] { Join(listener.address(), kHello, kOurSecret, timeout); });
    });
  };
  auto waits = join(milliseconds(300));
  const auto silent = listener.Accept("rank 0", seconds(5));
  EXPECT_THAT(waits.get(), HasSubstr("did not answer rank 0 within 0.3 s"));
  EXPECT_THAT(LostSentence([&] { silent->Receive(seconds(5)); }), HasSubstr("closed"));

  auto hears = join(seconds(5));
  const auto eager = listener.Accept("rank 0", seconds(5));
  SendJoin(*eager, JoinFrame::kWelcome, Encode(Mac{}));
  EXPECT_THAT(hears.get(), HasSubstr("the controller sent a frame of type 0xff02 out of turn while joining"));

  auto drowns = join(seconds(5));
  const auto verbose = listener.Accept("rank 0", seconds(5));
  SendJoin(*verbose, JoinFrame::kChallenge, std::vector<std::byte>(kMaxStrangersPayload + 1));
  EXPECT_THAT(drowns.get(), HasSubstr("announces 65537 bytes, the limit is 65536"));
}

}  // namespace
}  // namespace sluice::comm
