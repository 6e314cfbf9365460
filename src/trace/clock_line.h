#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sluice::trace {

// How far a rank's clock was from the controller's at one moment.
struct ClockPoint {
  int64_t at_ns = 0;      // the rank's clock
  int64_t offset_ns = 0;  // the rank's less the controller's
  int64_t error_ns = 0;   // offset_ns is wrong by at most this
  bool operator==(const ClockPoint&) const = default;
};

// Of round trips to a rank the shortest counts: the rank read its clock some time between the sending of the
// question and the arrival of the answer, so taken half-way it is wrong by at most half of the trip.
class ClockProbe {
 public:
  // Question sent and answer heard by the controller's clock; in between the rank's said `rank_ns`.
  void Add(int64_t sent_ns, int64_t heard_ns, int64_t rank_ns);
  std::optional<ClockPoint> best() const { return best_; }

 private:
  std::optional<ClockPoint> best_;
};

// From a rank's clock to the controller's: by a straight line between two points, by the same offset before
// the first and after the last.
class ClockLine {
 public:
  // In the order of at_ns. None: the clocks are the same.
  explicit ClockLine(std::vector<ClockPoint> points) : points_(std::move(points)) {}
  int64_t Aligned(int64_t rank_ns) const;
  // Between the points, and at them.
  int64_t error_ns() const;

 private:
  std::vector<ClockPoint> points_;
};

// Names the monotonic clock that this process reads: processes for which it is equal read the same one, and
// have no offset. Of the boot and the time namespace; empty where the system does not say.
std::string ClockIdentity();

}  // namespace sluice::trace
