#include <algorithm>
#include <thread>

#include "base/error.h"
#include "base/wire.h"
#include "comm/join_frames.h"
#include "comm/rendezvous.h"

namespace sluice::comm {
namespace {

constexpr Duration kRetryEvery = std::chrono::milliseconds(50);
constexpr Duration kLongestConnect = std::chrono::seconds(5);
// What the controller's answer to a kGet may take beyond the time the key was waited for.
constexpr Duration kAnswerLimit = std::chrono::seconds(5);

// A rank's way from the connection to the controller's proof.
struct Joiner {
  Channel& channel;
  const Address& address;
  int rank;
  Deadline deadline;
  Duration timeout;

  Frame Next() const {
    auto frame = channel.Receive(std::max(deadline - Clock::now(), Duration(0)));
    if (!frame.has_value()) {
      Fail(ErrorKind::kRankLost, "the controller at {} did not answer rank {} within {:.1f} s",
           address.ToString(), rank, InSeconds(timeout));
    }
    return *std::move(frame);
  }
  Frame Next(JoinFrame type) const {
    Frame frame = Next();
    if (TypeOf(frame) != type) FailUnexpected(channel, frame);
    return frame;
  }

  // Returns when the controller has welcomed this rank and proven itself. Nothing it says without a proof is
  // believed, or shown.
  void TakeAnswer(const Joining& joining, const JobSecret& secret) const {
    const Frame frame = Next();
    if (TypeOf(frame) == JoinFrame::kRefused) {
      const RefusedFrame refused = DecodeRefusedFrame(frame);
      if (secret.Verifies(joining.ClaimOfRefusal(refused.sentence), refused.proof)) {
        Fail(ErrorKind::kUsage, "the controller at {} refused: {}", address.ToString(), refused.sentence);
      }
    } else if (TypeOf(frame) != JoinFrame::kWelcome) {
      FailUnexpected(channel, frame);
    } else if (secret.Verifies(joining.ClaimOfController(), DecodeNonceOrProof(frame))) {
      return;
    }
    Fail(ErrorKind::kUsage,
         "the controller at {} does not know the job secret of rank {}; give every node the same {} or "
         "--job-secret-file",
         address.ToString(), rank, kSecretVariable);
  }
};

}  // namespace

std::unique_ptr<Channel> Join(const Address& address, const Hello& hello, const JobSecret& secret,
                              Duration timeout) {
  const Deadline deadline = Clock::now() + timeout;
  std::unique_ptr<Channel> channel;
  while (channel == nullptr) {
    const Duration left = deadline - Clock::now();
    if (left <= Duration(0)) {
      Fail(ErrorKind::kNetwork,
           "rank {} found no controller at {} within {:.1f} s; start node 0 and check the address",
           hello.rank, address.ToString(), InSeconds(timeout));
    }
    channel = TryConnect(address, "the controller", std::min(left, kLongestConnect));
    if (channel == nullptr) std::this_thread::sleep_for(std::min(left, kRetryEvery));
  }
  channel->LimitReceived(kMaxStrangersPayload);
  const Joiner joiner{*channel, address, hello.rank, deadline, timeout};
  Joining joining{{}, MakeNonce(), EncodeHello(hello)};
  joining.controllers = DecodeNonceOrProof(joiner.Next(JoinFrame::kChallenge));
  SendJoin(*channel, JoinFrame::kHello,
           Encode(HelloFrame{joining.ranks, secret.Sign(joining.ClaimOfRank()), joining.hello}));
  joiner.TakeAnswer(joining, secret);
  channel->LimitReceived(kMaxFramePayload);
  return channel;
}

void JoinedStore::Set(const std::string& key, const std::vector<char>& value) {
  WireWriter writer;
  writer.PutString(key);
  writer.PutList(std::span<const char>(value));
  SendJoin(controller_, JoinFrame::kSet, writer.Take());
}

std::vector<char> JoinedStore::Get(const std::string& key, Duration timeout) {
  WireWriter writer;
  writer.PutString(key);
  writer.Put<int64_t>(timeout.count());
  SendJoin(controller_, JoinFrame::kGet, writer.Take());
  const auto answer = controller_.Receive(timeout + kAnswerLimit);
  if (!answer.has_value() || TypeOf(*answer) == JoinFrame::kNoValue) {
    Fail(ErrorKind::kRankLost, "nobody has set \"{}\" within {:.1f} s; a rank has not started", key,
         InSeconds(timeout));
  }
  if (TypeOf(*answer) != JoinFrame::kValue) FailUnexpected(controller_, *answer);
  WireReader reader(answer->payload);
  std::vector<char> value = reader.GetList<char>();
  reader.Done();
  return value;
}

void SayConnected(Channel& controller) { SendJoin(controller, JoinFrame::kConnected); }

}  // namespace sluice::comm
