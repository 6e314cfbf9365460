#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "comm/address.h"
#include "comm/channel.h"
#include "comm/hello.h"
#include "comm/job_secret.h"
#include "comm/key_value_store.h"
#include "comm/socket_channel.h"

// How ranks in processes of their own find the controller and one another:
//   controller -> rank  kChallenge  a nonce
//   rank -> controller  kHello      its own nonce, who it is, which job it was started for, and the proof
//                                   that it knows the job's secret
//   controller -> rank  kWelcome    the controller's proof; or kRefused, and the connection is closed
//   rank -> controller  kSet, kGet  the key-value exchange its data plane needs; kGet is answered by
//                                   kValue or, when nobody set the key in time, by kNoValue
//   rank -> controller  kConnected  its data plane stands; what follows on the connection is the job's
// Anything else, or anything out of this order, closes the connection. Proofs are HMAC-SHA256 over who
// proves, both nonces and the whole hello (join_frames.h); before they are checked neither side says,
// believes or allocates more than they need. Frames after the welcome are neither encrypted nor proven:
// whoever can change what travels between two hosts can change them (docs/decisions/control-plane.md).
namespace sluice::comm {

// The controller's side.
class Rendezvous {
 public:
  // Listens from now on. expected.rank is not looked at. Throws Error(kNetwork) when it cannot.
  Rendezvous(const Address& listen, Hello expected, JobSecret secret);

  // Where ranks can join; with the port the system chose where 0 was asked for.
  const Address& address() const { return listener_.address(); }

  // Waits until all ranks have joined and said kConnected, and serves their key-value exchange meanwhile.
  // Returns their channels in rank order. A connection that does not know the secret, a rank of another
  // build, world or job (hello.h), and a rank that is there already, is refused, which is logged, and does
  // not end the wait. Throws Error(kRankLost) naming the ranks that are missing when `timeout` is over, and
  // the rank when one that had joined is lost. `look` is called every few milliseconds meanwhile; what it
  // throws ends the wait.
  std::vector<std::unique_ptr<Channel>> Accept(Duration timeout, const std::function<void()>& look = {});

 private:
  Hello expected_;
  JobSecret secret_;
  Listener listener_;
};

// A rank's side: connects, again and again until `timeout` is over, and joins. Throws Error(kNetwork) when
// nobody listens at `address` in time, Error(kUsage) with the controller's sentence when it refuses and when
// it does not know the secret, and Error(kRankLost) when the connection ends or the controller does not
// answer.
std::unique_ptr<Channel> Join(const Address& address, const Hello& hello, const JobSecret& secret,
                              Duration timeout);

// The key-value exchange of a rank that has joined; nobody else may use the channel meanwhile.
class JoinedStore final : public KeyValueStore {
 public:
  explicit JoinedStore(Channel& controller) : controller_(controller) {}
  void Set(const std::string& key, const std::vector<char>& value) override;
  std::vector<char> Get(const std::string& key, Duration timeout) override;

 private:
  Channel& controller_;
};

// Ends the start-up of a rank that has joined: the channel is the job's from now on.
void SayConnected(Channel& controller);

}  // namespace sluice::comm
