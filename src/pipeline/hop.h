#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "tensor/tensor.h"

namespace sluice::pipeline {

// What crosses from one stage to the next for each row: named fields, sizes known on both sides.
struct HopField {
  std::string name;
  int64_t bytes_per_row = 0;
};
struct HopLayout {
  std::vector<HopField> fields;
  int64_t row_bytes() const;
};

// The hand-over of dealt rows: lane c of stage s sends the rows it owns to lane c of stage s + 1, rows(lane)
// x row_bytes, nothing gathered and nothing repeated. Receives are posted ahead of need, sends are not waited
// for: while a step's rows travel, the next step computes.
class Hop {
 public:
  // upstream, downstream: ranks of `world`; -1 where there is none. max_in_flight bounds the send buffers
  // held.
  Hop(comm::Communicator& world, int upstream, int downstream, HopLayout layout, int max_in_flight);

  bool has_upstream() const { return upstream_ >= 0; }
  bool has_downstream() const { return downstream_ >= 0; }

  // Posts the receive of a step that is to come. Steps in order, each once.
  void Expect(int64_t step, int64_t rows);
  // True once Expect was called for the step and Take was not.
  bool Expects(int64_t step) const { return expected_.contains(step); }
  // Waits for the rows of a step and hands over their buffer.
  Buffer Take(int64_t step);
  // A buffer for `rows` rows that may be sent, or given back by Recycle.
  Buffer NewBuffer(int64_t rows);
  // Starts sending; blocks only when max_in_flight sends are still under way.
  void Send(int64_t step, int64_t rows, Buffer buffer);
  void Recycle(Buffer buffer);
  // Waits until everything sent has arrived.
  void Flush();

  // Counted before a send is posted and after a receive is complete; readable from any thread.
  int64_t bytes_sent() const { return bytes_sent_; }
  int64_t bytes_received() const { return bytes_received_; }

 private:
  struct Moving {
    Buffer buffer;
    std::unique_ptr<comm::Transfer> transfer;  // null when the lane has no rows
    int64_t bytes = 0;
  };
  void FinishOldestSend();

  comm::Communicator& world_;
  int upstream_;
  int downstream_;
  HopLayout layout_;
  int max_in_flight_;
  std::map<int64_t, Moving> expected_;
  std::deque<Moving> sending_;
  std::vector<Buffer> free_;
  std::atomic<int64_t> bytes_sent_ = 0;
  std::atomic<int64_t> bytes_received_ = 0;
};

}  // namespace sluice::pipeline
