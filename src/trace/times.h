#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace sluice::trace {

// At every instant a rank's compute thread does exactly one of these.
enum class Part : uint8_t {
  kCompute,  // everything in a pass that is not one of the next two
  kWait,     // a collective inside a pass
  kHop,      // rows or tokens of another stage, or room to send them
  kIdle,     // there is no published work
};

// A stretch of a rank's time by part; nanoseconds.
struct Times {
  int64_t compute_ns = 0;
  int64_t wait_ns = 0;
  int64_t hop_ns = 0;
  int64_t idle_ns = 0;

  int64_t& operator[](Part part);
  int64_t sum() const { return compute_ns + wait_ns + hop_ns + idle_ns; }
  Times operator-(const Times& before) const;
  bool operator==(const Times&) const = default;
};

// One pass of a rank, from the moment it is taken from the list of published work to the moment its rows or
// its result are handed on. compute_ns + wait_ns + hop_ns = end_ns - begin_ns; idle_ns is what came before
// begin_ns, since the end of the pass before. So a rank's records tile its time.
struct PassTimes {
  int64_t step = -1;
  int32_t pass = 0;
  int64_t begin_ns = 0;  // of the monotonic clock
  int64_t end_ns = 0;
  Times times;
  bool operator==(const PassTimes&) const = default;
};

// A rank's share of a busy period: the time in which at least one step is under way. It begins with a step
// that was published when no other was (step::Step::begins_busy_period).
struct BusyPeriod {
  int64_t step = -1;     // the step it began with; -1: there was none yet
  int64_t begin_ns = 0;  // of this rank's first pass
  int64_t end_ns = 0;    // of its last pass so far
  Times times;           // in between; their sum is end_ns - begin_ns
  bool operator==(const BusyPeriod&) const = default;
};

// Fractions of time; they add up to 1.
struct Shares {
  double compute = 0.0;
  double wait = 0.0;
  double hop = 0.0;
  double idle = 0.0;
  // Share of the time without compute.
  double bubble() const { return wait + hop + idle; }
};

// Where the ranks' time went in the last busy period, counted from the first begin to the last end of any
// rank's passes. What a rank's own period does not cover of that is idle.
struct BusyShares {
  double seconds = 0.0;
  Shares all;
  std::vector<Shares> stages;
};

// by_rank: all on one clock; a rank that has not yet begun the latest period counts as idle. stages: the
// stage of each rank, 0 to some S - 1. Nothing before the first pass.
std::optional<BusyShares> BusySharesOf(std::span<const BusyPeriod> by_rank, std::span<const int32_t> stages);

}  // namespace sluice::trace
