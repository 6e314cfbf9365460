#include "comm/rendezvous.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <list>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/wire.h"
#include "comm/join_frames.h"

namespace sluice::comm {
namespace {

constexpr Duration kAcceptSlice = std::chrono::milliseconds(20);
constexpr Duration kGetSlice = std::chrono::milliseconds(50);
constexpr Duration kGrace = std::chrono::seconds(1);
// Connections that have not proven who they are, beyond one for each rank, before others must wait for theirs
// to be accepted; and how long each may take to prove it.
constexpr int kStrangers = 16;
constexpr Duration kStrangersTime = std::chrono::seconds(10);

// All ranks' way through the start-up. Each connection is served by a thread of its own until its rank is
// connected; Accept watches.
class StartUp {
 public:
  StartUp(const Hello& expected, const JobSecret& secret, Deadline deadline)
      : expected_(expected),
        secret_(secret),
        deadline_(deadline),
        seats_(static_cast<size_t>(expected.world)) {}

  ~StartUp() {
    // Half-open connections and ranks of a start-up that failed: closing ends their threads' waits.
    for (Session& session : sessions_) {
      {
        std::lock_guard lock(mutex_);
        if (session.channel != nullptr) session.channel->Close();
      }
      session.thread.join();
    }
  }

  bool HasRoom() {
    std::lock_guard lock(mutex_);
    return strangers_ < expected_.world + kStrangers;
  }

  void Add(std::unique_ptr<Channel> channel) {
    channel->LimitReceived(kMaxStrangersPayload);
    {
      std::lock_guard lock(mutex_);
      ++strangers_;
    }
    Session& session = sessions_.emplace_back();
    session.channel = std::move(channel);
    session.thread = std::thread([this, &session] { Serve(session); });
  }

  bool Complete() {
    std::lock_guard lock(mutex_);
    if (!failure_.empty()) throw Error(ErrorKind::kRankLost, failure_);
    return connected_ == expected_.world;
  }

  std::vector<std::unique_ptr<Channel>> TakeChannels() {
    std::vector<std::unique_ptr<Channel>> channels;
    std::lock_guard lock(mutex_);
    for (Seat& seat : seats_) channels.push_back(std::move(seat.channel));
    return channels;
  }

  [[noreturn]] void FailMissing(const Address& address, Duration timeout) {
    std::lock_guard lock(mutex_);
    std::string absent;
    std::string unconnected;
    for (size_t rank = 0; rank < seats_.size(); ++rank) {
      if (seats_[rank].channel != nullptr) continue;
      std::string& list = seats_[rank].taken ? unconnected : absent;
      list += fmt::format("{}{}", list.empty() ? "" : ", ", rank);
    }
    std::string sentence = fmt::format("after {:.1f} s at {}", std::chrono::duration<double>(timeout).count(),
                                       address.ToString());
    if (!absent.empty())
      sentence += fmt::format(", these of the job's {} ranks have not joined: {}", seats_.size(), absent);
    if (!unconnected.empty())
      sentence += fmt::format(", these have joined but are not connected: {}", unconnected);
    if (!last_refusal_.empty()) sentence += fmt::format(" (the last refused: {})", last_refusal_);
    throw Error(ErrorKind::kRankLost, sentence);
  }

 private:
  struct Seat {
    bool taken = false;
    std::unique_ptr<Channel> channel;  // once connected
  };
  struct Session {
    std::unique_ptr<Channel> channel;  // moved to the seat under mutex_
    std::thread thread;
  };

  // A connection's thread waits a little beyond the deadline, so that it is Accept that says who is missing;
  // the end of the start-up ends the wait anyway.
  Duration Left() const { return std::max<Duration>(deadline_ + kGrace - Clock::now(), Duration(0)); }

  void Serve(Session& session) {
    Channel& channel = *session.channel;
    std::optional<int> rank;
    try {
      rank = Welcome(channel);
      if (rank.has_value()) {
        ServeExchange(channel);
        std::lock_guard lock(mutex_);
        seats_[*rank].channel = std::move(session.channel);
        ++connected_;
        return;
      }
    } catch (const Error& error) {
      // A stranger that breaks off is nobody's loss; a rank that does is.
      std::lock_guard lock(mutex_);
      if (rank.has_value() && failure_.empty()) {
        failure_ = fmt::format("rank {} was lost while joining: {}", *rank, error.what());
      }
    }
    std::lock_guard lock(mutex_);
    session.channel.reset();
  }

  // The hello of a stranger that has shown that it knows the secret; nothing for one that was refused or
  // stayed silent.
  std::optional<Hello> Authenticate(Channel& channel, Joining& joining) {
    struct Leave {
      StartUp& start_up;
      ~Leave() {
        std::lock_guard lock(start_up.mutex_);
        --start_up.strangers_;
      }
    } const leave{*this};
    joining.controllers = MakeNonce();
    SendJoin(channel, JoinFrame::kChallenge, Encode(joining.controllers));
    const auto frame = channel.Receive(std::min(Left(), kStrangersTime));
    if (!frame.has_value()) return std::nullopt;
    if (TypeOf(*frame) != JoinFrame::kHello) FailUnexpected(channel, *frame);
    HelloFrame said = DecodeHelloFrame(*frame);
    joining.ranks = said.ranks;
    joining.hello = std::move(said.hello);
    if (secret_.Verifies(joining.ClaimOfRank(), said.proof)) {
      channel.LimitReceived(kMaxFramePayload);
      return DecodeHello(joining.hello);
    }
    // It learns that it was refused, and nothing that was made with the secret.
    NoteRefusal(fmt::format("{} did not know the job secret; has every node the same?", channel.peer()));
    SendJoin(channel, JoinFrame::kRefused, Encode(RefusedFrame{}));
    return std::nullopt;
  }

  // The rank that has been given its seat, or nothing for a connection that got none.
  std::optional<int> Welcome(Channel& channel) {
    Joining joining;
    const auto hello = Authenticate(channel, joining);
    if (!hello.has_value()) return std::nullopt;
    channel.SetPeer(fmt::format("rank {}", hello->rank));
    const std::string objection = TakeSeat(*hello);
    if (!objection.empty()) {
      NoteRefusal(objection);
      SendJoin(channel, JoinFrame::kRefused,
               Encode(RefusedFrame{objection, secret_.Sign(joining.ClaimOfRefusal(objection))}));
      return std::nullopt;
    }
    try {
      SendJoin(channel, JoinFrame::kWelcome, Encode(secret_.Sign(joining.ClaimOfController())));
    } catch (const Error&) {
      // It left before it knew of its seat: the next one of its rank may have it.
      std::lock_guard lock(mutex_);
      seats_[hello->rank].taken = false;
      throw;
    }
    return hello->rank;
  }

  // Why the rank may not have its seat; empty: it has it.
  std::string TakeSeat(const Hello& hello) {
    std::string objection = Objection(hello, expected_);
    if (!objection.empty()) return objection;
    std::lock_guard lock(mutex_);
    if (seats_[hello.rank].taken) {
      return fmt::format("rank {} has joined already; do two nodes have the same --node-rank?", hello.rank);
    }
    seats_[hello.rank].taken = true;
    return "";
  }

  void NoteRefusal(const std::string& refusal) {
    spdlog::warn("refused to join: {}", refusal);
    std::lock_guard lock(mutex_);
    last_refusal_ = refusal;
  }

  // Until the rank says that it is connected.
  void ServeExchange(Channel& channel) {
    while (true) {
      const auto frame = channel.Receive(Left());
      if (!frame.has_value()) Fail(ErrorKind::kRankLost, "{} was not connected in time", channel.peer());
      WireReader reader(frame->payload);
      switch (TypeOf(*frame)) {
        case JoinFrame::kSet: {
          const std::string key = reader.GetString();
          store_.Set(key, reader.GetList<char>());
          break;
        }
        case JoinFrame::kGet: {
          const std::string key = reader.GetString();
          Answer(channel, key, Duration(reader.Get<int64_t>()));
          break;
        }
        case JoinFrame::kConnected:
          reader.Done();
          return;
        default:
          FailUnexpected(channel, *frame);
      }
      reader.Done();
    }
  }

  // Waits for the key in slices, and looks between them whether the rank that asked is still there.
  void Answer(Channel& channel, const std::string& key, Duration timeout) {
    const Deadline until = Clock::now() + std::min(timeout, Left());
    std::vector<char> value;
    while (!store_.TryGet(key, std::min<Duration>(kGetSlice, until - Clock::now()), value)) {
      if (Clock::now() >= until) {
        SendJoin(channel, JoinFrame::kNoValue);
        return;
      }
      if (const auto frame = channel.Receive(Duration(0))) FailUnexpected(channel, *frame);
    }
    WireWriter writer;
    writer.PutList(std::span<const char>(value));
    SendJoin(channel, JoinFrame::kValue, writer.Take());
  }

  const Hello expected_;
  const JobSecret& secret_;
  const Deadline deadline_;
  LocalStore store_;
  std::list<Session> sessions_;  // a list: its threads hold references

  std::mutex mutex_;
  std::vector<Seat> seats_;
  int connected_ = 0;
  int strangers_ = 0;
  std::string failure_;
  std::string last_refusal_;
};

}  // namespace

Rendezvous::Rendezvous(const Address& listen, Hello expected, JobSecret secret)
    : expected_(std::move(expected)), secret_(std::move(secret)), listener_(listen) {
  SLUICE_CHECK(expected_.world > 0, "{} ranks", expected_.world);
}

std::vector<std::unique_ptr<Channel>> Rendezvous::Accept(Duration timeout,
                                                         const std::function<void()>& look) {
  const Deadline deadline = Clock::now() + timeout;
  StartUp start_up(expected_, secret_, deadline);
  while (!start_up.Complete()) {
    if (look) look();
    if (Clock::now() >= deadline) start_up.FailMissing(address(), timeout);
    if (!start_up.HasRoom()) {
      std::this_thread::sleep_for(kAcceptSlice);
    } else if (auto channel = listener_.Accept("a joining rank", kAcceptSlice)) {
      start_up.Add(std::move(channel));
    }
  }
  return start_up.TakeChannels();
}

}  // namespace sluice::comm
