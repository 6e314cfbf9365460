#include "doctor/time_probe.h"

#include <fmt/format.h>
#include <sys/timex.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/wire.h"

namespace sluice::doctor {
namespace {

constexpr uint16_t kProbe = 0xfe00;
constexpr uint16_t kAnswer = 0xfe01;
constexpr size_t kLongestPayload = 4096;
constexpr int kProbes = 8;
constexpr Duration kLook = std::chrono::milliseconds(200);
constexpr Duration kPatience = std::chrono::seconds(2);
constexpr double kSkewMs = 100;

// Until the peer leaves or is silent.
void AnswerOne(comm::Channel& channel, const std::string& build, const WallClock& now) {
  channel.LimitReceived(kLongestPayload);
  try {
    while (const auto frame = channel.Receive(kPatience)) {
      if (frame->type != kProbe) return;
      WireWriter writer;
      writer.Put<int64_t>(now());
      writer.PutString(build);
      channel.Send({kAnswer, frame->step, 0, writer.Take()});
    }
  } catch (const Error&) {
    // It has what it came for.
  }
}

struct Answer {
  int64_t difference_ns = 0;  // the peer's clock less ours
  int64_t round_trip_ns = 0;
  std::string build;
};

Answer Ask(comm::Channel& channel, Duration timeout, uint64_t number) {
  const int64_t begin = WallNs();
  channel.Send({kProbe, number, 0, {}});
  const auto frame = channel.Receive(timeout);
  const int64_t end = WallNs();
  if (!frame.has_value()) Fail(ErrorKind::kRankLost, "it did not answer");
  if (frame->type != kAnswer || frame->step != number) {
    Fail(ErrorKind::kRankLost, "it answers as no doctor does");
  }
  WireReader reader(frame->payload);
  const auto theirs = reader.Get<int64_t>();
  Answer answer{theirs - (begin + (end - begin) / 2), end - begin, reader.GetString()};
  reader.Done();
  return answer;
}

Finding JudgeSkew(const std::string& peer, const Answer& answer) {
  const std::string what = fmt::format("clock of {}", peer);
  const double ms = static_cast<double>(answer.difference_ns) / 1e6;
  const double unsure_ms = static_cast<double>(answer.round_trip_ns) / 2e6;
  const std::string found = fmt::format("{:+.3f} ms against this host's, known to {:.3f} ms", ms, unsure_ms);
  if (std::abs(ms) <= kSkewMs + unsure_ms) return Ok(what, found);
  return Warn(
      what, found,
      "jobs run, for no host relies on another's clock, but logs cannot be laid side by side: run chrony or "
      "another NTP client on both");
}

}  // namespace

int64_t WallNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void AnswerProbes(comm::Listener& listener, const std::string& build, const WallClock& now,
                  const std::function<bool()>& stop) {
  while (!stop()) {
    if (const auto channel = listener.Accept("a doctor", kLook)) AnswerOne(*channel, build, now);
  }
}

Findings AskPeer(const comm::Address& peer, const std::string& build, Duration timeout) {
  const std::string name = peer.ToString();
  const std::string what = fmt::format("peer {}", name);
  const char* remedy =
      "start `sluice doctor --listen` there on this address; then check routes and firewalls";
  try {
    int error = 0;
    const auto channel = comm::TryConnect(peer, name, timeout, &error);
    if (channel == nullptr) {
      return {Bad(what, fmt::format("it is not reached: {}", std::strerror(error)), remedy)};
    }
    channel->LimitReceived(kLongestPayload);
    Answer best;
    for (int probe = 0; probe < kProbes; ++probe) {
      Answer answer = Ask(*channel, timeout, static_cast<uint64_t>(probe));
      if (probe == 0 || answer.round_trip_ns < best.round_trip_ns) best = std::move(answer);
    }
    Findings findings{
        Ok(what, fmt::format("it answers in {:.3f} ms", static_cast<double>(best.round_trip_ns) / 1e6)),
        JudgeSkew(name, best)};
    if (best.build == build) {
      findings.push_back(Ok(fmt::format("build of {}", name), best.build));
    } else {
      findings.push_back(Bad(fmt::format("build of {}", name),
                             fmt::format("{}, here it is {}", best.build, build),
                             "ranks of different builds do not join: install one build on every host"));
    }
    return findings;
  } catch (const Error& error) {
    return {Bad(what, error.what(), remedy)};
  }
}

Finding LookAtOwnClock() {
  timex state{};
  const int kept = adjtimex(&state);
  if (kept < 0) {
    return Warn("clock", fmt::format("the system does not say whether it is kept: {}", std::strerror(errno)),
                "compare it with another host's: sluice doctor --peer");
  }
  if (kept == TIME_ERROR || (state.status & STA_UNSYNC) != 0) {
    return Warn("clock", "nobody keeps it",
                "logs of several hosts cannot be laid side by side: run chrony or another NTP client");
  }
  return Ok("clock", fmt::format("kept, error at most {:.1f} ms", static_cast<double>(state.maxerror) / 1e3));
}

}  // namespace sluice::doctor
